//! Runs a rule natively, without a server and without WebAssembly; it does not exist in a module.
//!
//! ```
//! use wasmeval_rule::testing::{Event, Test};
//! use wasmeval_rule::{Declare, Rule};
//!
//! fn payment_limit(d: &mut Declare) -> Rule {
//!     d.matches("payment.*");
//!     let amount = d.f64("amount");
//!     let limit = d.param("limit", 1000.0, "");
//!     Rule::each(move |row| {
//!         let amount = amount.get(row).filter(|a| *a > limit.get())?;
//!         row.payload().set("amount", amount).emit();
//!         Some(1)
//!     })
//! }
//!
//! let mut test = Test::with_params(payment_limit, r#"{"limit":50}"#).unwrap();
//! assert_eq!(test.event(r#"{"type":"payment.made","amount":50}"#).code, 0);
//! let verdict = test.event(Event::new("payment.made").set("amount", 50.5));
//! assert_eq!((verdict.code, verdict.payload()), (1, r#"{"amount":50.5}"#));
//! ```
//!
//! Keyed state lasts from event to event, as in the server. Its clock is virtual: it follows the
//! events' member `time`, and [`Test::after`] moves it on.

mod batch;
pub(crate) mod calls;
mod state;
mod time;
mod tree;

use std::time::Duration;

use self::batch::EventRow;
use self::calls::Host;
use self::tree::Tree;
use crate::declare::Declare;
use crate::guest::Instance;
use crate::json::{Object, ToJson};
use crate::log::Level;
use crate::verdict::Rule;

/// What a rule said of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The code: 0 does not match, above 0 is the rule's own, below 0 is an error.
    pub code: i32,
    /// The payload as JSON, if the rule attached one and the code is above 0.
    pub payload: Option<String>,
}

impl Verdict {
    /// Returns the payload, or an empty text if there is none.
    pub fn payload(&self) -> &str {
        self.payload.as_deref().unwrap_or_default()
    }
}

/// An event, member by member, where one does not want to write JSON.
#[derive(Debug)]
#[must_use]
pub struct Event(Object);

impl Event {
    /// Makes an event of a type.
    pub fn new(event_type: &str) -> Event {
        Event(Object::begin(Vec::new()).set("type", event_type))
    }

    /// Adds a member; an `Option` that is `None` is left out.
    pub fn set(self, key: &str, value: impl ToJson) -> Event {
        Event(self.0.set(key, value))
    }

    /// Adds a member that is an object.
    pub fn object(self, key: &str, fill: impl FnOnce(Object) -> Object) -> Event {
        Event(self.0.object(key, fill))
    }
}

impl From<Event> for String {
    fn from(event: Event) -> String {
        String::from_utf8(event.0.end()).expect("JSON is UTF-8")
    }
}

/// A rule under test, with its keyed state and its clock.
pub struct Test {
    instance: Instance,
    host: Host,
    key: String,
    time: String,
    now: i64, // nanoseconds since 1970
}

impl Test {
    /// Makes a test of a rule whose parameters have their defaults. It panics if one has none.
    pub fn new(declare: fn(&mut Declare) -> Rule) -> Test {
        Test::with_params(declare, "{}").unwrap_or_else(|e| panic!("{}", e))
    }

    /// Makes a test of a rule, with a JSON object of the parameters that are not to have their
    /// defaults. It errs where the server would refuse the parameters.
    pub fn with_params(declare: fn(&mut Declare) -> Rule, params: &str) -> Result<Test, String> {
        let instance = Instance::new(declare);
        let manifest = String::from_utf8(instance.manifest.clone()).expect("JSON is UTF-8");
        let params = fill(&Tree::parse(&manifest)?, &Tree::parse(params)?)?;
        let mut host = Host::new(instance.declared.states.clone());
        host.during(|| instance.declared.configure(&params))?;
        Ok(Test { instance, host, key: "key".to_string(), time: "time".to_string(), now: 0 })
    }

    /// Sets the path of the field that is the event's key, `key` if not set. The server has an
    /// option for it.
    pub fn key(mut self, path: &str) -> Test {
        self.key = path.to_string();
        self
    }

    /// Sets the path of the field that is the event's time in RFC 3339, `time` if not set.
    pub fn time(mut self, path: &str) -> Test {
        self.time = path.to_string();
        self
    }

    /// Moves the clock on.
    pub fn after(&mut self, time: Duration) -> &mut Test {
        self.now += time.as_nanos() as i64;
        self
    }

    /// Evaluates an event: JSON, or an [`Event`]. It arrives at the time of the clock, and has
    /// that for its own if it names none. It panics if the event cannot be read.
    pub fn event(&mut self, event: impl Into<String>) -> Verdict {
        self.events([event]).pop().expect("a verdict for the event")
    }

    /// Evaluates events as one batch. Those of a type that the rule does not match have code 0.
    pub fn events<E>(&mut self, events: impl IntoIterator<Item = E>) -> Vec<Verdict>
    where
        E: Into<String>,
    {
        let mut verdicts = Vec::new();
        let mut rows = Vec::new();
        let mut indexes = Vec::new(); // of the rows' events
        for (index, event) in events.into_iter().enumerate() {
            let row = self.read(&event.into());
            verdicts.push(Verdict::default());
            if self.matches(row.event.member("type").and_then(Tree::string).unwrap_or_default()) {
                indexes.push(index);
                rows.push(row);
            }
        }
        if !rows.is_empty() {
            for (verdict, index) in self.evaluate(rows).into_iter().zip(indexes) {
                verdicts[index] = verdict;
            }
        }
        verdicts
    }

    /// Takes the lines that the rule has logged since this was called last.
    pub fn log(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.host.log)
    }

    /// Returns the manifest, which is JSON.
    pub fn manifest(&self) -> &str {
        std::str::from_utf8(&self.instance.manifest).expect("JSON is UTF-8")
    }

    fn read(&mut self, text: &str) -> EventRow {
        let event = Tree::parse(text).unwrap_or_else(|e| panic!("{}: {}", e, text));
        let own = event.at(&self.time).and_then(Tree::string).map(|t| {
            time::parse(t).unwrap_or_else(|| panic!("{} is {}: expected RFC 3339", self.time, t))
        });
        let time = own.unwrap_or(self.now);
        self.now = self.now.max(time);
        let key = event.at(&self.key).and_then(Tree::key).unwrap_or_default();
        EventRow { key, time, arrival: self.now, event }
    }

    fn matches(&self, event_type: &str) -> bool {
        let patterns = &self.instance.declared.patterns;
        patterns.is_empty()
            || patterns.iter().any(|p| match p.strip_suffix('*') {
                Some(prefix) if p == "*" || prefix.ends_with('.') => event_type.starts_with(prefix),
                _ => p == event_type,
            })
    }

    fn evaluate(&mut self, rows: Vec<EventRow>) -> Vec<Verdict> {
        let d = &self.instance.declared;
        let mut memory = batch::build(&rows, &d.paths, &d.kinds);
        self.host.begin(rows);
        let instance = &mut self.instance;
        let done = self.host.during(|| instance.evaluate(&mut memory));
        assert!(done.is_some(), "the harness made a batch that the rule refuses");
        let codes = batch::codes(&memory);
        let payloads = self.host.payloads();
        codes
            .into_iter()
            .zip(payloads)
            .map(|(code, payload)| Verdict { code, payload: payload.filter(|_| code > 0) })
            .collect()
    }
}

impl std::fmt::Debug for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Test").field("rule", &self.instance.declared).finish()
    }
}

/// Gives what the server configures a rule with: every parameter in order, with defaults.
fn fill(manifest: &Tree, given: &Tree) -> Result<String, String> {
    let given = given.members().ok_or("params: expected an object")?;
    let declared = manifest.member("params").map(Tree::items).unwrap_or_default();
    let mut params = Object::begin(Vec::new());
    for p in declared {
        let name = p.member("name").and_then(Tree::string).unwrap_or_default();
        let own = given.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let value = own.or_else(|| p.member("default"));
        let value = value.ok_or_else(|| format!("param \"{}\" has no default", name))?;
        params = params.set(name, value);
    }
    let named =
        |key: &str| declared.iter().any(|p| p.member("name").and_then(Tree::string) == Some(key));
    if let Some((key, _)) = given.iter().find(|(key, _)| !named(key)) {
        return Err(format!("param \"{}\" is not declared", key));
    }
    Ok(String::from_utf8(params.end()).expect("JSON is UTF-8"))
}
