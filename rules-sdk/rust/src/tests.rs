//! Tests of the whole, as a rule sees it.

use std::time::Duration;

use crate::testing::{Event, Test, Verdict};
use crate::{Array, Declare, Error, Level, Object, Payload, Row, Rule, ToJson, Window};

fn json(value: impl ToJson) -> String {
    let mut out = Vec::new();
    value.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn writes_numbers() {
    for (number, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-250.0, "-250"),
        (9007199254740991.0, "9007199254740991"),
        (0.1, "0.1"),
        (-0.25, "-0.25"),
        (100.01, "100.01"),
        (0.000001, "0.000001"),
        (1.000001, "1.000001"),
        (0.30000000000000004, "0.30000000000000004"),
        (1.0 / 3.0, "0.3333333333333333"),
        (1e20, "100000000000000000000"),
        (1e21, "1e21"),
        (-1.5e300, "-1.5e300"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e308"),
        (f64::NAN, "null"),
        (f64::NEG_INFINITY, "null"),
    ] {
        assert_eq!(json(number), text);
    }
    assert_eq!(
        json([i64::MIN, -1, 0, i64::MAX]),
        "[-9223372036854775808,-1,0,9223372036854775807]"
    );
    assert_eq!(json([0, u64::MAX]), "[0,18446744073709551615]");
}

/// The short way gives what the standard library gives.
#[test]
fn writes_decimals_as_the_standard_library_does() {
    let mut random = 1u64;
    for _ in 0..200_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let digits = (random >> 32) as f64 * f64::from(1 << (random % 20));
        let number = digits / 10f64.powi((random >> 28) as i32 & 7);
        assert_eq!(json(number), number.to_string());
    }
}

#[test]
fn writes_strings() {
    for (string, text) in [
        ("", r#""""#),
        ("Bäckerei 🥨", r#""Bäckerei 🥨""#),
        ("a\"b\\c/d", r#""a\"b\\c/d""#),
        ("\n\t\u{0}\u{1f}\u{7f}", "\"\\u000a\\u0009\\u0000\\u001f\u{7f}\""),
        ("\"", r#""\"""#),
    ] {
        assert_eq!(json(string), text);
    }
}

fn shapes(_: &mut Declare) -> Rule {
    let point = |o: Object| o.set("x", 1).set("y", [true, false]);
    let list = move |a: Array| a.push("a").object(point).array(|a| a).push(None::<i32>);
    Rule::each(move |row| {
        row.payload().set("none", None::<f64>).object("o", point).array("a", list).emit();
        1
    })
}

#[test]
fn builds_payloads() {
    let want = r#"{"o":{"x":1,"y":[true,false]},"a":["a",{"x":1,"y":[true,false]},[],null]}"#;
    assert_eq!(Test::new(shapes).event("{}").payload(), want);
}

/// Each row attaches what its event asks for.
fn emitter(d: &mut Declare) -> Rule {
    let (text, code) = (d.utf8("text"), d.i64("code"));
    Rule::each(move |row| {
        row.emit(text.get(row).unwrap_or("0"))?;
        Ok(code.get(row).unwrap_or(1) as i32)
    })
}

#[test]
fn attaches_payloads_to_their_rows() {
    let mut test = Test::new(emitter);
    let event = |text: &str, code: i32| Event::new("").set("text", text).set("code", code);
    let large = ["\"", &"x".repeat(20_000), "\""].concat();
    let verdicts = test.events([
        event("[1]", 7),
        event("thrown away", 0),
        event("{\"a\":1,\"a\":2}", 7),
        event(&large, 7),
        event("2", 0),
        event("3", -9),
    ]);
    let said = |code, payload: Option<&str>| Verdict { code, payload: payload.map(String::from) };
    assert_eq!(
        verdicts,
        [
            said(7, Some("[1]")),
            said(Error::NotJson.code(), None),
            said(Error::NotJson.code(), None),
            said(Error::TooLarge.code(), None),
            said(0, None),
            said(-9, None),
        ]
    );
}

#[test]
fn logs_what_the_server_refuses() {
    fn rule(_: &mut Declare) -> Rule {
        Rule::each(|row: Row<'_>| {
            let twice = |p: Payload| p.set("a", 1).set("a", 2);
            twice(row.payload()).emit();
            crate::debug!("row {}", row.index());
            crate::error!("plain");
            1
        })
    }
    let mut test = Test::new(rule);
    test.event("{}");
    let line = |level, text: &str| (level, text.to_string());
    assert_eq!(
        test.log(),
        [
            line(Level::Warn, "cannot emit payload: it is not JSON as the server takes it"),
            line(Level::Debug, "row 0"),
            line(Level::Error, "plain"),
        ]
    );
    assert_eq!(test.log(), []);
}

fn everything(d: &mut Declare) -> Rule {
    d.describe("all that \"can\" be declared").matches("a.*").matches("b");
    d.f64("f");
    d.json("$");
    d.param("f", 1.5, "a number");
    d.param("i", -3, "");
    d.param("b", true, "");
    d.param("s", "é\n", "");
    d.required::<i64>("r", "");
    d.state("c").keys(5).by_arrival().counter(Window::sliding(Duration::from_secs(60), 60));
    d.state("d").distinct(Duration::from_millis(1500), 4);
    d.state("s").seen();
    d.state("v").ttl(Duration::from_secs(1)).value(32);
    Rule::each(|_| 0)
}

#[test]
fn writes_the_manifest() {
    let test = Test::with_params(everything, r#"{"r":1}"#).unwrap();
    let want = concat!(
        r#"{"description":"all that \"can\" be declared","match":["a.*","b"],"#,
        r#""fields":[{"path":"f","type":"f64"},{"path":"$","type":"json"}],"#,
        r#""params":[{"name":"f","type":"f64","default":1.5,"description":"a number"},"#,
        r#"{"name":"i","type":"i64","default":-3},{"name":"b","type":"bool","default":true},"#,
        r#"{"name":"s","type":"utf8","default":"é\u000a"},{"name":"r","type":"i64"}],"#,
        r#""state":[{"name":"c","kind":"counter","window_ms":60000,"buckets":60,"keys":5,"#,
        r#""time":"arrival"},{"name":"d","kind":"distinct","window_ms":1500,"limit":4},"#,
        r#"{"name":"s","kind":"seen"},{"name":"v","kind":"value","bytes":32,"ttl_ms":1000}]}"#,
    );
    assert_eq!(test.manifest(), want);
}

fn declared(declare: fn(&mut Declare) -> Rule) -> String {
    let panic = std::panic::catch_unwind(|| Test::new(declare)).unwrap_err();
    panic.downcast::<String>().map_or_else(|p| p.downcast::<&str>().unwrap().to_string(), |s| *s)
}

#[test]
fn refuses_what_cannot_be_declared() {
    const SECOND: Duration = Duration::from_secs(1);
    fn rule() -> Rule {
        Rule::each(|_| 0)
    }
    type Fault = (fn(&mut Declare) -> Rule, &'static str);
    let faults: [Fault; 11] = [
        (|d| (d.f64(""), rule()).1, "a field has an empty path"),
        (|d| (d.utf8("$"), rule()).1, "field \"$\" is declared as utf8: expected json"),
        (|d| (d.f64("a"), d.f64("a"), rule()).2, "field \"a\" is declared twice as f64"),
        (
            |d| ((0..65).map(|i| d.i64(&i.to_string())).count(), rule()).1,
            "more than 64 fields are declared",
        ),
        (|d| (d.param("a", 1, ""), d.param("a", 2, ""), rule()).2, "param \"a\" is declared twice"),
        (
            |d| (d.param("a", f64::NAN, ""), rule()).1,
            "param \"a\" has a default that JSON cannot hold",
        ),
        (
            |d| (d.state("a").seen(), d.state("a").value(1), rule()).2,
            "state \"a\" is declared twice",
        ),
        (|d| (d.state("a").value(257), rule()).1, "state \"a\" has 257 bytes: expected 1 to 256"),
        (
            |d| (d.state("a").ttl(SECOND).distinct(SECOND, 1), rule()).1,
            "state \"a\" is a distinct, which has no ttl",
        ),
        (
            |d| (d.state("a").counter(Window::sliding(SECOND, 3)), rule()).1,
            "state \"a\" has buckets of no whole milliseconds",
        ),
        (
            |d| (d.state("a").ttl(Duration::from_micros(1500)).seen(), rule()).1,
            "state \"a\" has a ttl that is not 1 or more whole ms",
        ),
    ];
    for (declare, reason) in faults {
        assert_eq!(declared(declare), reason);
    }
}

fn configured(text: &str) -> Result<(), String> {
    let mut d = Declare::new();
    d.param("f", 1.5, "");
    d.param("i", 0, "");
    d.param("b", false, "");
    let s = d.param("s", "", "");
    d.check(move || if s.get() == "bad" { Err("param \"s\" is bad".to_string()) } else { Ok(()) });
    d.configure(text)
}

#[test]
fn reads_parameters_strictly() {
    assert_eq!(configured(r#"{"f":-1.5e3,"i":-7,"b":true,"s":"x"}"#), Ok(()));
    for (text, reason) in [
        (r#"{"f":"1","i":1,"b":true,"s":""}"#, "param \"f\": expected a value of type f64"),
        (r#"{"f":01,"i":1,"b":true,"s":""}"#, "param \"f\": expected a value of type f64"),
        (r#"{"f":1e999,"i":1,"b":true,"s":""}"#, "param \"f\": expected a value of type f64"),
        (r#"{"f":nan,"i":1,"b":true,"s":""}"#, "param \"f\": expected a value of type f64"),
        (r#"{"f":1,"i":1.5,"b":true,"s":""}"#, "param \"i\": expected a value of type i64"),
        (
            r#"{"f":1,"i":9223372036854775808,"b":true,"s":""}"#,
            "param \"i\": expected a value of type i64",
        ),
        (r#"{"f":1,"i":1,"b":1,"s":""}"#, "param \"b\": expected a value of type bool"),
        (r#"{"f":1,"i":1,"b":true,"s":null}"#, "param \"s\": expected a value of type utf8"),
        (r#"{"f":1,"i":1,"b":true,"s":"\x"}"#, "param \"s\": expected a value of type utf8"),
        (r#"{"f":1,"i":1,"b":true,"s":"bad"}"#, "param \"s\" is bad"),
        (r#"{"i":1,"f":1,"b":true,"s":""}"#, "expected param \"f\""),
        (r#"{"f":1,"i":1,"b":true}"#, "expected param \"s\""),
        (r#"{"f": 1,"i":1,"b":true,"s":""}"#, "param \"f\": expected a value of type f64"),
        ("", "expected param \"f\""),
        (
            r#"{"f":1,"i":1,"b":true,"s":"","t":1}"#,
            "expected an object of the declared params and nothing else",
        ),
        (
            r#"{"f":1,"i":1,"b":true,"s":""} "#,
            "expected an object of the declared params and nothing else",
        ),
    ] {
        assert_eq!(configured(text), Err(reason.to_string()), "{}", text);
    }
    assert_eq!(Declare::new().configure("{}"), Ok(()));
}

#[test]
fn reads_strings_of_parameters() {
    fn rule(d: &mut Declare) -> Rule {
        let s = d.param("s", "", "");
        Rule::each(move |row| {
            row.payload().set("s", s.get()).emit();
            1
        })
    }
    for (text, payload) in [
        (r#""\"\\\/\b\f\n\r\t""#, r#"{"s":"\"\\/\u0008\u000c\u000a\u000d\u0009"}"#),
        (r#""\u00e9\ud83e\udd68é""#, "{\"s\":\"é🥨é\"}"),
        (r#""\ud83e\u0041\udd68""#, "{\"s\":\"\u{fffd}A\u{fffd}\"}"),
    ] {
        let mut test = Test::with_params(rule, &format!("{{\"s\":{}}}", text)).unwrap();
        // The harness passes a string on as it understands it; so must the rule.
        assert_eq!(test.event("{}").payload(), payload);
    }
}

fn reader(d: &mut Declare) -> Rule {
    let (f, i, b) = (d.f64("f"), d.i64("i"), d.bool("b"));
    let (s, j, price) = (d.utf8("s.t"), d.json("j"), d.f64("items[1].price"));
    let (raw, key, time) = (d.json("$"), d.utf8("@key"), d.i64("@time"));
    Rule::each(move |row| {
        row.payload()
            .set("f", f.get(row))
            .set("i", i.get(row))
            .set("b", b.get(row))
            .set("s", s.get(row))
            .set("j", j.get(row))
            .set("price", price.get(row))
            .set("key", key.get(row))
            .set("time", time.get(row))
            .set("raw", raw.get(row))
            .emit();
        1
    })
}

#[test]
fn reads_fields() {
    let mut test = Test::new(reader).key("k").time("at");
    for (event, fields) in [
        (r#"{}"#, r#""time":0"#),
        (
            r#"{"f":1.5,"i":-7,"b":false,"s":{"t":"é"},"j":[1,{}],"items":[{},{"price":2}],"k":7}"#,
            r#""f":1.5,"i":-7,"b":false,"s":"é","j":[1,{}],"price":2,"key":"7","time":0"#,
        ),
        (r#"{"f":"1.5","i":1.5,"b":0,"s":{"t":1},"j":null,"items":{},"k":null}"#, r#""time":0"#),
        (r#"{"f":1e999,"i":1e3,"j":false,"k":""}"#, r#""i":1000,"j":false,"time":0"#),
        (r#"{"i":9223372036854775808,"at":"1970-01-01T00:00:01Z"}"#, r#""time":1000000000"#),
    ] {
        let want = format!("{{{},\"raw\":{}}}", fields, event);
        assert_eq!(test.event(event).payload(), want);
    }
}

#[test]
fn reads_whole_columns() {
    fn rule(d: &mut Declare) -> Rule {
        let (f, b, s) = (d.f64("f"), d.bool("b"), d.utf8("s"));
        Rule::batch(move |batch, codes| {
            assert_eq!((batch.len(), batch.rows().len(), batch.arrivals().len()), (10, 10, 10));
            assert_eq!((f.nulls(batch), b.nulls(batch), s.nulls(batch)), (5, 9, 10));
            assert_eq!(f.validity(batch), [0b0101_0101, 0b01]);
            assert_eq!(b.values(batch), [0, 0b10]);
            for (code, value) in codes.iter_mut().zip(f.values(batch)) {
                *code = *value as i32;
            }
        })
    }
    let event = |i: i32| {
        let f = Some(i + 1).filter(|_| i % 2 == 0);
        Event::new("").set("f", f).set("b", Some(true).filter(|_| i == 9))
    };
    let codes = Test::new(rule).events((0..10).map(event)).into_iter().map(|v| v.code);
    assert_eq!(codes.collect::<Vec<_>>(), [1, 0, 3, 0, 5, 0, 7, 0, 9, 0]);
}

#[test]
fn evaluates_what_matches() {
    fn rule(d: &mut Declare) -> Rule {
        d.matches("a.*").matches("b");
        Rule::each(|_| 1)
    }
    let types = ["a.x", "a.", "a", "b", "b.c", ""];
    let codes = Test::new(rule).events(types.map(Event::new)).into_iter().map(|v| v.code);
    assert_eq!(codes.collect::<Vec<_>>(), [1, 1, 0, 1, 0, 0]);
    assert_eq!(Test::new(shapes).event("{}").code, 1);
}

#[test]
#[should_panic(expected = "a field is read in another rule")]
fn refuses_a_field_of_another_rule() {
    thread_local!(static FIELD: std::cell::Cell<Option<crate::F64>> = Default::default());
    fn one(d: &mut Declare) -> Rule {
        FIELD.with(|f| f.set(Some(d.f64("a"))));
        Rule::each(|_| 0)
    }
    fn other(d: &mut Declare) -> Rule {
        d.f64("a");
        Rule::each(|row| FIELD.with(|f| f.get().unwrap().get(row).map(|_| 1)))
    }
    Test::new(one);
    Test::new(other).event("{}");
}

const MINUTE: Duration = Duration::from_secs(60);

/// Does with its states what an event asks for.
fn keeper(d: &mut Declare) -> Rule {
    let (op, sub, n, s) = (d.utf8("op"), d.utf8("sub"), d.f64("n"), d.utf8("s"));
    let tumbling = d.state("tumbling").counter(Window::tumbling(MINUTE));
    let sliding = d.state("sliding").keys(2).counter(Window::sliding(MINUTE, 60));
    let cards = d.state("cards").distinct(MINUTE, 3);
    let last = d.state("last").ttl(MINUTE).value(4);
    let known = d.state("known").by_arrival().seen();
    Rule::each(move |row| {
        let sub = sub.get(row).unwrap_or_default();
        let amount = n.get(row).unwrap_or(1.0);
        let text = s.get(row).unwrap_or_default();
        let number = |n: Option<f64>| n.map_or(-100, |n| n as i32);
        Ok(match op.get(row).unwrap_or_default() {
            "tumbling" => number(tumbling.by(sub).add(row, amount)),
            "sliding" => number(sliding.add(row, amount)),
            "sum" => number(sliding.sum(row)),
            "distinct" => cards.add(row, text).map_or(-100, |n| n as i32),
            "set" => last.set(row, text).map(|()| 1)?,
            "get" => last.get(row).map_or(-1, |v| v.text().map_or(-2, |t| t.len() as i32)),
            "age" => last.time(row).map_or(-1, |t| ((row.arrival() - t) / 1_000_000_000) as i32),
            "delete" => last.delete(row).into(),
            "seen" => match known.by(sub).mark(row) {
                None => -100,
                Some(None) => 0,
                Some(Some(first)) => (first / 1_000_000_000) as i32,
            },
            _ => return Err(Error::Refused),
        })
    })
}

struct Keeper(Test);

impl Keeper {
    fn new() -> Keeper {
        Keeper(Test::new(keeper))
    }

    fn ask(&mut self, op: &str, more: impl Fn(Event) -> Event) -> i32 {
        self.0.event(more(Event::new("x").set("op", op).set("key", "k"))).code
    }

    fn wait(&mut self, seconds: u64) {
        self.0.after(Duration::from_secs(seconds));
    }
}

#[test]
fn counts_over_windows() {
    let mut k = Keeper::new();
    assert_eq!(k.ask("tumbling", |e| e), 1);
    assert_eq!(k.ask("tumbling", |e| e.set("n", 2.5)), 3);
    assert_eq!(k.ask("tumbling", |e| e.set("sub", "s")), 1);
    assert_eq!(k.ask("sliding", |e| e.set("n", 5)), 5);
    k.wait(59);
    assert_eq!(k.ask("tumbling", |e| e.set("n", 0)), 3);
    assert_eq!(k.ask("sliding", |e| e), 6);
    k.wait(1);
    assert_eq!(k.ask("tumbling", |e| e), 1);
    assert_eq!(k.ask("sum", |e| e), 1);
    let late = |e: Event| e.set("time", "1970-01-01T00:00:00Z");
    assert_eq!(k.ask("sliding", late), 1); // which is older than the window
    assert_eq!(k.ask("sliding", |e| e.set("time", "1970-01-01T00:00:30Z")), 2);
}

#[test]
fn makes_room_for_other_keys() {
    let mut test = Test::new(keeper);
    let mut add = |key: &str| test.event(Event::new("").set("op", "sliding").set("key", key)).code;
    assert_eq!([add("a"), add("b"), add("a"), add("c"), add("a"), add("b")], [1, 1, 2, 1, 3, 1]);
}

#[test]
fn counts_different_values() {
    let mut k = Keeper::new();
    let mut add = |s: &str, wait| {
        k.wait(wait);
        k.ask("distinct", |e| e.set("s", s))
    };
    assert_eq!([add("a", 0), add("a", 1), add("b", 0), add("c", 0), add("d", 9)], [1, 1, 2, 3, 3]);
    assert_eq!([add("d", 59), add("e", 0)], [1, 2]);
    assert_eq!(k.ask("distinct", |e| e.set("s", "x".repeat(257))), -100);
}

#[test]
fn keeps_values() {
    let mut k = Keeper::new();
    assert_eq!((k.ask("get", |e| e), k.ask("age", |e| e), k.ask("delete", |e| e)), (-1, -1, 0));
    assert_eq!(k.ask("set", |e| e.set("s", "abcde")), Error::TooLarge.code());
    assert_eq!(k.ask("set", |e| e.set("s", "abc")), 1);
    k.wait(59);
    assert_eq!((k.ask("get", |e| e), k.ask("age", |e| e)), (3, 59));
    assert_eq!(k.ask("set", |e| e), 1);
    assert_eq!((k.ask("get", |e| e), k.ask("delete", |e| e), k.ask("get", |e| e)), (0, 1, -1));
    assert_eq!(k.ask("set", |e| e.set("s", "é")), 1);
    k.wait(60);
    assert_eq!(k.ask("get", |e| e), -1);
}

#[test]
fn knows_what_came_first() {
    let mut k = Keeper::new();
    k.wait(5);
    assert_eq!(k.ask("seen", |e| e), 0);
    k.wait(5);
    assert_eq!(k.ask("seen", |e| e), 5);
    assert_eq!(k.ask("seen", |e| e.set("sub", "s").set("time", "1970-01-01T00:00:01Z")), 0);
    assert_eq!(k.ask("seen", |e| e.set("sub", "s")), 10); // it goes by arrival
}

#[test]
fn keeps_nothing_without_a_key() {
    let mut test = Test::new(keeper);
    let mut ask = |op: &str| test.event(Event::new("x").set("op", op)).code;
    assert_eq!(ask("tumbling"), -100);
    assert_eq!(ask("distinct"), -100);
    assert_eq!(ask("seen"), -100);
    assert_eq!(ask("set"), Error::NoKey.code());
    assert_eq!((ask("get"), ask("age"), ask("delete")), (-1, -1, 0));
    let mut k = Keeper::new();
    assert_eq!(k.ask("tumbling", |e| e.set("sub", "x".repeat(256))), 1);
    assert_eq!(k.ask("tumbling", |e| e.set("sub", "x".repeat(257))), -100);
}

#[test]
fn refuses_parameters_as_the_server_does() {
    let refused = |params: &str| Test::with_params(everything, params).unwrap_err();
    assert_eq!(refused("{}"), "param \"r\" has no default");
    assert_eq!(refused(r#"{"r":1,"x":1}"#), "param \"x\" is not declared");
    assert_eq!(refused(r#"{"r":"1"}"#), "param \"r\": expected a value of type i64");
    assert_eq!(refused("[]"), "params: expected an object");
}
