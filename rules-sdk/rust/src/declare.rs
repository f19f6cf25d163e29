use std::cell::Cell;
use std::fmt;

use crate::batch::{Bool, JsonField, Kind, Slot, Utf8, F64, I64};
use crate::json::{Array, Object};
use crate::param::{AnyParam, Declared, Param, ParamType};
use crate::state::{DeclareState, Spec};

/// Declares what a rule reads and keeps. Whatever cannot be declared panics, with the reason in the
/// log: a field or name twice, more than 64 fields, 64 parameters or 16 states.
pub struct Declare {
    pub(crate) id: u32,
    description: String,
    pub(crate) patterns: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) kinds: Vec<Kind>, // of paths
    pub(crate) params: Vec<Box<dyn AnyParam>>,
    pub(crate) states: Vec<Spec>,
    check: Option<Check>,
}

type Check = Box<dyn Fn() -> Result<(), String>>;

thread_local! {
    /// How many rules there are, which is 1 in a module.
    static RULES: Cell<u32> = const { Cell::new(0) };
}

impl Declare {
    pub(crate) fn new() -> Declare {
        let id = RULES.with(|n| n.replace(n.get() + 1));
        Declare {
            id,
            description: String::new(),
            patterns: Vec::new(),
            paths: Vec::new(),
            kinds: Vec::new(),
            params: Vec::new(),
            states: Vec::new(),
            check: None,
        }
    }

    /// Says in one line what the rule does.
    pub fn describe(&mut self, text: &str) -> &mut Declare {
        self.description = text.to_string();
        self
    }

    /// Adds a pattern of event types that the rule wants: `*` for all events, `payment.*` for types
    /// that begin with `payment.`, or a whole type. Without any the rule gets all events.
    pub fn matches(&mut self, pattern: &str) -> &mut Declare {
        self.patterns.push(pattern.to_string());
        self
    }

    /// Declares a field that is read as `f64`. A path is one into the event, such as `amount`,
    /// `user.id` or `items[0].price`, or `@type`, `@id`, `@source`, `@time` or `@key` of its
    /// envelope.
    pub fn f64(&mut self, path: &str) -> F64 {
        F64(self.field(path, Kind::F64))
    }

    /// Declares a field that is read as an exact `i64`; `@time` is in nanoseconds since 1970-01-01
    /// UTC.
    pub fn i64(&mut self, path: &str) -> I64 {
        I64(self.field(path, Kind::I64))
    }

    /// Declares a field that is read as `bool`.
    pub fn bool(&mut self, path: &str) -> Bool {
        Bool(self.field(path, Kind::Bool))
    }

    /// Declares a field that is read as string; `@time` is RFC 3339.
    pub fn utf8(&mut self, path: &str) -> Utf8 {
        Utf8(self.field(path, Kind::Utf8))
    }

    /// Declares a field of any type that is read as JSON text; `$` is the whole event.
    pub fn json(&mut self, path: &str) -> JsonField {
        JsonField(self.field(path, Kind::Json))
    }

    fn field(&mut self, path: &str, kind: Kind) -> Slot {
        let index = self.paths.len();
        if path.is_empty() {
            panic!("a field has an empty path");
        }
        if path == "$" && kind != Kind::Json {
            panic!("field \"$\" is declared as {}: expected json", kind.name());
        }
        if self.paths.iter().zip(&self.kinds).any(|(p, k)| p == path && *k == kind) {
            panic!("field \"{}\" is declared twice as {}", path, kind.name());
        }
        if index == 64 {
            panic!("more than 64 fields are declared");
        }
        self.paths.push(path.to_string());
        self.kinds.push(kind);
        Slot { index: index as u32, rule: self.id }
    }

    /// Declares a parameter, whose type is that of its default: `f64`, `i64`, `bool` or
    /// `&'static str`. The description may be empty.
    pub fn param<T: ParamType>(&mut self, name: &str, default: T, description: &str) -> Param<T> {
        let mut text = Vec::new();
        default.write(&mut text);
        if text == b"null" {
            panic!("param \"{}\" has a default that JSON cannot hold", name);
        }
        self.add_param(Declared::new(name, Some(default), description))
    }

    /// Declares a parameter that whoever activates the rule must set.
    pub fn required<T: ParamType>(&mut self, name: &str, description: &str) -> Param<T> {
        self.add_param(Declared::new(name, None, description))
    }

    fn add_param<T: ParamType>(&mut self, declared: Declared<T>) -> Param<T> {
        let param = declared.param();
        let name = declared.name();
        if name.is_empty() {
            panic!("a param has an empty name");
        }
        if self.params.iter().any(|p| p.name() == name) {
            panic!("param \"{}\" is declared twice", name);
        }
        if self.params.len() == 64 {
            panic!("more than 64 params are declared");
        }
        self.params.push(Box::new(declared));
        param
    }

    /// Sets a function that looks at the parameters once they have their values. If it gives an
    /// error, which should name the parameter, the server does not activate the rule.
    pub fn check(&mut self, check: impl Fn() -> Result<(), String> + 'static) -> &mut Declare {
        self.check = Some(Box::new(check));
        self
    }

    /// Begins to declare a keyed state, which the server keeps for each event key from event to
    /// event, also when it replaces the instance or restarts. (Its option `key` says which field is
    /// the key.) What a batch that fails has changed is undone.
    pub fn state(&mut self, name: &str) -> DeclareState<'_> {
        DeclareState::new(self, name)
    }

    pub(crate) fn add_state(&mut self, spec: Spec) -> u32 {
        let index = self.states.len();
        if spec.name.is_empty() {
            panic!("a state has an empty name");
        }
        if self.states.iter().any(|s| s.name == spec.name) {
            panic!("state \"{}\" is declared twice", spec.name);
        }
        if index == 16 {
            panic!("more than 16 states are declared");
        }
        self.states.push(spec);
        index as u32
    }

    pub(crate) fn configure(&self, text: &str) -> Result<(), String> {
        crate::param::configure(&self.params, text)?;
        self.check.as_ref().map_or(Ok(()), |check| check())
    }

    /// Gives the manifest as JSON.
    pub(crate) fn manifest(&self) -> Vec<u8> {
        let mut manifest = Object::begin(Vec::new()).set("description", self.description.as_str());
        if !self.patterns.is_empty() {
            manifest = manifest.set("match", &self.patterns[..]);
        }
        let field = |list: Array, (path, kind): (&String, &Kind)| {
            list.object(|o| o.set("path", path.as_str()).set("type", kind.name()))
        };
        manifest
            .array("fields", |list| self.paths.iter().zip(&self.kinds).fold(list, field))
            .array("params", |list| {
                self.params.iter().fold(list, |list, p| list.object(|o| p.describe(o)))
            })
            .array("state", |list| {
                self.states.iter().fold(list, |list, s| list.object(|o| s.describe(o)))
            })
            .end()
    }
}

impl fmt::Debug for Declare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Declare").field(&self.description).finish()
    }
}
