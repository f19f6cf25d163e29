// build: rustc @../../flags --crate-type rlib --crate-name wasmeval_rule -o libwasmeval_rule.rlib ../../src/lib.rs && rustc @../../flags --crate-type cdylib --extern wasmeval_rule=libwasmeval_rule.rlib -o price-band.wasm price-band.rs; rm -f libwasmeval_rule.rlib
//! Orders whose price is outside a band around the last price of their symbol: code 1 above it,
//! code 2 below it.

use std::time::Duration;

use wasmeval_rule::{rule, Declare, Rule};

rule!(price_band);

const ABOVE: i32 = 1;
const BELOW: i32 = 2;

fn price_band(d: &mut Declare) -> Rule {
    d.describe("orders priced above (1) or below (2) a band around the symbol's last price");
    d.matches("order.*");
    let price = d.f64("price");
    let symbol = d.utf8("@key");
    let limit = d.param("limit", 10.0, "how far from the last price passes, percent");
    d.check(move || match limit.get() {
        l if l > 0.0 => Ok(()),
        _ => Err("param \"limit\": expected a number above 0".to_string()),
    });
    // A price that is refused is not remembered. So that a market that has really moved does not
    // stay refused, neither is one for longer than this.
    let last = d.state("last").ttl(Duration::from_secs(600)).value(8);

    Rule::each(move |row| {
        let price = price.get(row)?;
        let before = last.get(row).and_then(|b| b.array()).map(f64::from_le_bytes);
        let code = match before {
            _ if price <= 0.0 => BELOW,
            Some(b) if price > b * (100.0 + limit.get()) / 100.0 => ABOVE,
            Some(b) if price < b * (100.0 - limit.get()) / 100.0 => BELOW,
            _ => {
                last.set(row, price.to_le_bytes()).ok()?;
                return None;
            }
        };
        let percent = before.map(|b| ((price / b - 1.0) * 10_000.0).round() / 100.0);
        row.payload()
            .set("symbol", symbol.get(row))
            .set("price", price)
            .set("last", before)
            .set("percent", percent)
            .emit();
        Some(code)
    })
}

#[cfg(test)]
mod tests {
    use wasmeval_rule::testing::{Event, Test};

    use super::*;

    fn order(symbol: &str, price: f64) -> Event {
        Event::new("order.placed").set("symbol", symbol).set("price", price)
    }

    #[test]
    fn holds_the_band_for_each_symbol() {
        let mut test = Test::new(price_band).key("symbol");
        assert_eq!(test.event(order("A", 100.0)).code, 0);
        assert_eq!(test.event(order("A", 110.0)).code, 0);
        assert_eq!(test.event(order("B", 1.0)).code, 0);
        let above = test.event(order("A", 150.0));
        assert_eq!(above.code, ABOVE);
        assert_eq!(above.payload(), r#"{"symbol":"A","price":150,"last":110,"percent":36.36}"#);
        assert_eq!(test.event(order("A", 98.9)).code, BELOW);
        assert_eq!(test.event(order("A", 105.0)).code, 0);
    }

    #[test]
    fn forgets_an_old_price() {
        let mut test = Test::new(price_band).key("symbol");
        assert_eq!(test.event(order("A", 100.0)).code, 0);
        assert_eq!(test.after(Duration::from_secs(599)).event(order("A", 200.0)).code, ABOVE);
        assert_eq!(test.after(Duration::from_secs(1)).event(order("A", 200.0)).code, 0);
    }

    #[test]
    fn refuses_prices_that_are_none() {
        let mut test = Test::new(price_band).key("symbol");
        assert_eq!(test.event(order("A", 0.0)).payload(), r#"{"symbol":"A","price":0}"#);
        assert_eq!(test.event(order("A", -5.0)).code, BELOW);
        assert_eq!(test.event(Event::new("order.placed").set("symbol", "A")).code, 0);
        assert_eq!(test.event(Event::new("order.placed").set("price", 5)).code, 0);
    }

    #[test]
    fn refuses_a_limit_that_is_none() {
        let refused = Test::with_params(price_band, r#"{"limit":0}"#).unwrap_err();
        assert_eq!(refused, "param \"limit\": expected a number above 0");
    }
}
