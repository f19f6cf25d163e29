//! Times as RFC 3339 writes them, and as nanoseconds since 1970-01-01 UTC.

const SECOND: i64 = 1_000_000_000;

pub fn parse(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let mark = |at: usize| text.as_bytes().get(at).copied().unwrap_or(0);
    if mark(4) != b'-' || mark(7) != b'-' || mark(13) != b':' || mark(16) != b':' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let good = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !good || !matches!(mark(10), b'T' | b't') || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut zone = 19;
    let mut fraction = 0;
    if mark(19) == b'.' {
        zone = 20 + text[20..].bytes().take_while(u8::is_ascii_digit).count();
        let digits = text[20..zone].get(..9).unwrap_or(&text[20..zone]);
        fraction = digits.parse::<i64>().ok()? * 10_i64.pow(9 - digits.len() as u32);
    }
    let offset = match mark(zone) {
        b'Z' | b'z' if text.len() == zone + 1 => 0,
        sign @ (b'+' | b'-') if text.len() == zone + 6 && mark(zone + 3) == b':' => {
            let minutes = number(zone + 1, zone + 3)? * 60 + number(zone + 4, zone + 6)?;
            if sign == b'+' {
                minutes
            } else {
                -minutes
            }
        }
        _ => return None,
    };
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second;
    seconds.checked_mul(SECOND)?.checked_add(fraction)
}

/// Counts the days from 1970-01-01 on. A year begins in March here, so that its leap day is last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

pub fn format(ns: i64) -> String {
    let (day, rest) = (ns.div_euclid(86_400 * SECOND), ns.rem_euclid(86_400 * SECOND));
    // A guess of the year is never too late by more than one.
    let mut year = 1970 + day.div_euclid(366).min(day.div_euclid(365));
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|m| days(year, *m, 1) <= day).unwrap_or(1);
    let seconds = rest / SECOND;
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}",
        year,
        month,
        day - days(year, month, 1) + 1,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        rest % SECOND
    );
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len().max(19));
    text + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats() {
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1969-12-31T23:59:59.5Z", -SECOND / 2),
            ("2000-02-29T12:30:15Z", 951_827_415 * SECOND),
            ("2026-03-02T08:00:00.31Z", 1_772_438_400 * SECOND + 310_000_000),
            ("2100-12-31T00:00:00Z", 4_133_894_400 * SECOND),
        ] {
            assert_eq!(parse(text), Some(ns), "{}", text);
            assert_eq!(format(ns), text);
        }
        assert_eq!(parse("2026-03-02T09:30:00+01:30"), parse("2026-03-02T08:00:00Z"));
        assert_eq!(
            parse("2026-03-02T08:00:00.1234567899Z"),
            parse("2026-03-02T08:00:00.123456789Z")
        );
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "2026-03-02",
            "2026-03-02T08:00:00",
            "2026-03-02 08:00:00Z",
            "2026-13-02T08:00:00Z",
            "2026-03-02T24:00:00Z",
            "2026-03-02T08:00:00.Z",
            "2026-03-02T08:00:00+0130",
            "+026-03-02T08:00:00Z",
            "2026-03-02T08:00:00Zé",
            "9999-03-02T08:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{}", text);
        }
    }
}
