// build: rustc @../../flags --crate-type rlib --crate-name wasmeval_rule -o libwasmeval_rule.rlib ../../src/lib.rs && rustc @../../flags --crate-type cdylib --extern wasmeval_rule=libwasmeval_rule.rlib -o missing-heartbeat.wasm missing-heartbeat.rs; rm -f libwasmeval_rule.rlib
//! Devices that come back after they were silent for too long: code 1.

use wasmeval_rule::{rule, Declare, Rule};

rule!(missing_heartbeat);

fn missing_heartbeat(d: &mut Declare) -> Rule {
    d.describe("devices that were silent for too long before this event").matches("device.*");
    let device = d.utf8("@key");
    let time = d.i64("@time");
    let limit = d.param("seconds", 60.0, "longest silence that passes");
    // What counts is when it was set.
    let last = d.state("last").value(1);

    Rule::each(move |row| {
        let now = time.get(row)?;
        let before = last.time(row);
        if before.map_or(false, |before| now < before) {
            return None; // late, and so no news
        }
        last.set(row, []).ok()?;
        let gap = (now - before?) as f64 / 1e9;
        if gap <= limit.get() {
            return None;
        }
        row.payload().set("device", device.get(row)).set("gap_s", gap).emit();
        Some(1)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmeval_rule::testing::{Event, Test};

    use super::*;

    fn beat(device: &str) -> Event {
        Event::new("device.heartbeat").set("device", device)
    }

    #[test]
    fn tells_of_a_gap_once() {
        let mut test = Test::new(missing_heartbeat).key("device");
        assert_eq!(test.event(beat("a")).code, 0);
        assert_eq!(test.after(Duration::from_secs(60)).event(beat("a")).code, 0);
        test.after(Duration::from_millis(60_500));
        assert_eq!(test.event(beat("b")).code, 0);
        let gap = test.event(beat("a"));
        assert_eq!((gap.code, gap.payload()), (1, r#"{"device":"a","gap_s":60.5}"#));
        assert_eq!(test.event(beat("a")).code, 0);
    }

    #[test]
    fn goes_by_the_time_of_the_events() {
        let mut test = Test::with_params(missing_heartbeat, r#"{"seconds":5}"#).unwrap().time("ts");
        let at = |ts: &str| Event::new("device.heartbeat").set("key", "a").set("ts", ts);
        assert_eq!(test.event(at("2026-03-02T08:00:10Z")).code, 0);
        assert_eq!(test.event(at("2026-03-02T08:00:01Z")).code, 0); // late
        assert_eq!(test.event(at("2026-03-02T08:00:14Z")).code, 0);
        assert_eq!(test.event(at("2026-03-02T08:00:20Z")).payload(), r#"{"device":"a","gap_s":6}"#);
    }
}
