package event

import (
	"math"
	"strconv"
)

// parseTime reads a time as RFC 3339 has it, as nanoseconds since 1970-01-01 UTC. It takes small
// letters and a space for the T as well, as the RFC allows, and counts a leap second as the one
// after it. What int64 cannot hold is no time.
func parseTime(b []byte) (ns int64, ok bool) {
	// 2006-01-02T15:04:05
	if len(b) < 20 || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' ||
		b[10]|0x20 != 't' && b[10] != ' ' {
		return 0, false
	}
	year, ok0 := decimal(b[0:4], 0, 9999)
	month, ok1 := decimal(b[5:7], 1, 12)
	day, ok2 := decimal(b[8:10], 1, 31)
	hour, ok3 := decimal(b[11:13], 0, 23)
	minute, ok4 := decimal(b[14:16], 0, 59)
	second, ok5 := decimal(b[17:19], 0, 60)
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5) || day > daysIn(year, month) {
		return 0, false
	}
	b = b[19:]
	var fraction int64
	if b[0] == '.' {
		n := digits(b, 1)
		if n == 1 {
			return 0, false
		}
		fraction = nanos(b[1:n])
		b = b[n:]
	}
	offset, ok := zone(b)
	if !ok {
		return 0, false
	}
	seconds := (days(year, month, day)*24+hour)*3600 + minute*60 + second - offset
	return join(seconds, fraction)
}

// zone reads the end of an RFC 3339 time as seconds east of UTC.
func zone(b []byte) (offset int64, ok bool) {
	if len(b) == 1 && b[0]|0x20 == 'z' {
		return 0, true
	}
	if len(b) != 6 || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	hour, ok0 := decimal(b[1:3], 0, 23)
	minute, ok1 := decimal(b[4:6], 0, 59)
	offset = hour*3600 + minute*60
	if b[0] == '-' {
		offset = -offset
	}
	return offset, ok0 && ok1
}

func decimal(b []byte, least, most int64) (n int64, ok bool) {
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, n >= least && n <= most
}

// nanos is the fraction with these decimal digits in billionths, cut off.
func nanos(b []byte) (n int64) {
	for i := range 9 {
		n *= 10
		if i < len(b) {
			n += int64(b[i] - '0')
		}
	}
	return n
}

func daysIn(year, month int64) int64 {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// days counts the days from 1970-01-01 to a date. The year is taken to begin in March, so that the
// leap day is its last.
func days(year, month, day int64) int64 {
	if month < 3 {
		year--
		month += 12
	}
	inYear := (153*(month-3)+2)/5 + day - 1
	leaps := floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400)
	return year*365 + leaps + inYear - 719468
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return (a - b + 1) / b
	}
	return a / b
}

// join makes nanoseconds of seconds and billionths, if int64 holds them.
func join(seconds, fraction int64) (ns int64, ok bool) {
	const most = math.MaxInt64/1_000_000_000 - 1
	if seconds > most || seconds < -most {
		return 0, false
	}
	return seconds*1_000_000_000 + fraction, true
}

// Times are numbers of the unit in which they have fewer than this many units. Seconds get there
// in the year 5138, and milliseconds did in 1973.
const unitLimit = 100_000_000_000

// parseUnix reads a JSON number as a unix time: seconds, or milliseconds, microseconds or
// nanoseconds if it is too large for the unit before.
func parseUnix(b []byte) (ns int64, ok bool) {
	negative := b[0] == '-'
	if negative {
		b = b[1:]
	}
	n := digits(b, 0)
	whole, err := strconv.ParseInt(string(b[:n]), 10, 64)
	if err != nil {
		return 0, false
	}
	var fraction int64 // billionths of the unit
	switch {
	case n == len(b):
	case b[n] == '.' && digits(b, n+1) == len(b):
		fraction = nanos(b[n+1:])
	default:
		f, err := strconv.ParseFloat(string(b), 64)
		if err != nil || f >= math.MaxInt64 {
			return 0, false
		}
		whole = int64(f)
		fraction = int64((f - float64(whole)) * 1e9)
	}
	ns, ok = unix(whole, fraction)
	if negative {
		ns = -ns
	}
	return ns, ok
}

// unix makes nanoseconds of a count of the unit that it seems to have.
func unix(whole, fraction int64) (ns int64, ok bool) {
	unit := int64(1_000_000_000)
	for limit := int64(unitLimit); unit > 1 && whole >= limit; limit *= 1000 {
		unit /= 1000
	}
	if whole > math.MaxInt64/unit-1 && unit > 1 {
		return 0, false
	}
	return whole*unit + fraction/(1_000_000_000/unit), true
}
