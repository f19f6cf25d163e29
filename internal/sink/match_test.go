package sink

import (
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, rule string
		want          bool
	}{
		{"pay", "pay", true},
		{"pay", "payment", false},
		{"pay", "Pay", false},
		{"pay.*", "pay.card", true},
		{"pay.*", "pay.", true},
		{"pay.*", "pay", false},
		{"pay.*", "prepay.card", false},
		{"pay*", "pay/card", true}, // a prefix goes past a slash, as a rule name has no folders
		{"*", "anything", true},
		{"*", "", true},
		{"*.card", "pay.card", true},
		{"*.card", "pay.cards", false},
		{"p?y", "pay", true},
		{"p?y", "paay", false},
		{"[pg]ay", "gay", true},
		{"[^pg]ay", "pay", false},
		{`\*`, "*", true},
		{`\*`, "pay", false},
		{`pay\**`, "pay*1", true},
		{`pay\**`, "pay1", false},
		{"a*b*", "axbx", true},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Errorf("pattern %q: %v", c.pattern, err)
		} else if got := p.match(c.rule); got != c.want {
			t.Errorf("pattern %q matches %q: %v, expected %v", c.pattern, c.rule, got, c.want)
		}
	}
	for _, bad := range []string{"", "[", "pay[", "pay[]", "[a-", "*[", `pay\`, "[]x]", "a*["} {
		if p, err := parsePattern(bad); err == nil {
			t.Errorf("pattern %q is taken as %+v", bad, p)
		}
	}
}

func TestCodes(t *testing.T) {
	type verdict struct {
		code   int32
		failed bool
	}
	no, yes, failed := verdict{0, false}, verdict{7, false}, verdict{0, true}
	failClosed, least := verdict{1, true}, verdict{-1 << 31, false}
	for codes, want := range map[string][]verdict{
		"":            {yes, failed, failClosed, least},
		"matched":     {yes, failClosed, least},
		"failed":      {failed, failClosed},
		"all":         {no, yes, failed, failClosed, least},
		"0":           {no, failed},
		"7":           {yes},
		"1 7":         {yes, failClosed},
		"-2147483648": {least},
		"failed 7":    {yes, failed, failClosed},
	} {
		f, faults := newFilter(nil, strings.Fields(codes))
		if len(faults) > 0 {
			t.Errorf("codes %q: %v", codes, faults)
		}
		for _, v := range []verdict{no, yes, failed, failClosed, least} {
			expected := false
			for _, w := range want {
				expected = expected || v == w
			}
			if got := f.wants("any", v.code, v.failed); got != expected {
				t.Errorf("codes %q want %+v: %v, expected %v", codes, v, got, expected)
			}
		}
	}
	// Each fault is told, not only the first one.
	_, faults := newFilter([]string{"[", "ok", ""}, []string{"often", "2147483648", "1.5", "7"})
	if len(faults) != 5 {
		t.Errorf("%d faults, expected 5: %v", len(faults), faults)
	}
}
