package sink

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// pattern is a rule name, a prefix with a star at the end, or a glob of path.Match.
type pattern struct {
	text   string
	prefix bool // text is what stands before the star
	glob   bool
}

func parsePattern(s string) (pattern, error) {
	if s == "" {
		return pattern{}, fmt.Errorf("rule pattern %q: expected a rule name or a glob", s)
	}
	if !strings.ContainsAny(s, `*?[\`) {
		return pattern{text: s}, nil
	}
	if before, ok := strings.CutSuffix(s, "*"); ok && !strings.ContainsAny(before, `*?[\`) {
		return pattern{text: before, prefix: true}, nil
	}
	if _, err := path.Match(s, ""); err != nil {
		return pattern{}, fmt.Errorf("rule pattern %q: expected a glob such as payment.*", s)
	}
	return pattern{text: s, glob: true}, nil
}

func (p *pattern) match(rule string) bool {
	switch {
	case p.prefix:
		return strings.HasPrefix(rule, p.text)
	case p.glob:
		ok, _ := path.Match(p.text, rule) // parsePattern has refused the bad ones
		return ok
	}
	return p.text == rule
}

// filter selects verdicts by rule and code. A route has one and a listener of the tail has one.
type filter struct {
	rules []pattern // empty: every rule

	all, matched, failed bool
	codes                []int32
}

// newFilter reports every fault of rules and codes at once.
func newFilter(rules, codes []string) (f filter, faults []error) {
	for _, s := range rules {
		p, err := parsePattern(s)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		f.rules = append(f.rules, p)
	}
	if len(codes) == 0 {
		f.matched, f.failed = true, true
	}
	for _, s := range codes {
		switch s {
		case "all":
			f.all = true
		case "matched":
			f.matched = true
		case "failed":
			f.failed = true
		default:
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil {
				faults = append(faults, fmt.Errorf(
					"code %q: expected matched, failed, all or a 32-bit number", s))
				continue
			}
			f.codes = append(f.codes, int32(n))
		}
	}
	return f, faults
}

func (f *filter) wantsRule(rule string) bool {
	for i := range f.rules {
		if f.rules[i].match(rule) {
			return true
		}
	}
	return len(f.rules) == 0
}

func (f *filter) wantsCode(code int32, failed bool) bool {
	if f.all || f.matched && code != 0 || f.failed && failed {
		return true
	}
	for _, c := range f.codes {
		if c == code {
			return true
		}
	}
	return false
}

func (f *filter) wants(rule string, code int32, failed bool) bool {
	return f.wantsCode(code, failed) && f.wantsRule(rule)
}
