package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func scanner(t testing.TB, f Fields, l Limits) *Scanner {
	t.Helper()
	s, err := NewScanner(f, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reason is what Scan finds wrong with text, or "" for a good event.
func reason(s *Scanner, text string) string {
	var env Envelope
	err := s.Scan([]byte(text), &env)
	if err == nil {
		return ""
	}
	return err.(*Error).Reason.String()
}

func TestScanGood(t *testing.T) {
	s := scanner(t, Fields{}, Limits{})
	for _, text := range []string{
		`{}`, ` { } `, "\r\n\t{}\n", `{"":0}`, `{"a":1}`, `{"a":1,"b":2}`, `{"a":{"a":{"a":1}}}`,
		`{"a":[]}`, `{"a":[[],{},[[]]]}`, `{"a":[1,2,3]}`, `{"a":[{"x":1},{"x":1}]}`,
		`{"a":true,"b":false,"c":null}`, `{"a":"","b":"x","c":"\"\\\/\b\f\n\r\t"}`,
		`{"a":"\u0000\u00e9\uD83D\uDE00\uFFFF"}`, `{"a":"é€😀"}`, "{\"a\":\"\x7f\"}",
		`{"a":0,"b":-0,"c":0.0,"d":-0.5e-10,"e":1E+5,"f":123456789012345678901234567890}`,
		`{"a":1e400}`, `{"a" : [ 1 , 2 ] , "b" : { "c" : 3 } }`, `{"a":"[{,:}]"}`,
		`{"aaaaaaaaa":1,"aaaaaaaab":2}`, `{"a":1,"A":2}`, `{"a\u0000":1,"a":2}`,
		"{\"e\u0301\":1,\"\u00e9\":2}",
		deep(64), manyKeys(1000, "%d"), manyKeys(1000, "a long prefix that all have %d"),
	} {
		if r := reason(s, text); r != "" {
			t.Errorf("%.60q: %s (%v)", text, r, &s.err)
		}
	}
}

// deep is an object with depth-1 arrays inside each other.
func deep(depth int) string {
	return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
}

func manyKeys(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"`+format+`":0`, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestScanBad(t *testing.T) {
	s := scanner(t, Fields{}, Limits{EventBytes: 1 << 20})
	long := strings.Repeat("x", 100)
	for _, c := range []struct{ want, text string }{
		{"malformed", ""}, {"malformed", "  "}, {"malformed", "{"}, {"malformed", "}"},
		{"malformed", "{}}"}, {"malformed", "{}{}"}, {"malformed", "{} x"}, {"malformed", "{,}"},
		{"malformed", `{"a"}`}, {"malformed", `{"a":}`}, {"malformed", `{"a":1,}`},
		{"malformed", `{"a":1 "b":2}`}, {"malformed", `{"a":1;"b":2}`}, {"malformed", `{a:1}`},
		{"malformed", `{'a':1}`}, {"malformed", `{1:1}`}, {"malformed", `{"a":1]`},
		{"malformed", `{"a":[1}`}, {"malformed", `{"a":[1,]}`}, {"malformed", `{"a":[,1]}`},
		{"malformed", `{"a":[1 2]}`}, {"malformed", `{"a":[`}, {"malformed", `{"a":[1`},
		{"malformed", `{"a":nan}`}, {"malformed", `{"a":NaN}`}, {"malformed", `{"a":Infinity}`},
		{"malformed", `{"a":-Infinity}`}, {"malformed", `{"a":nul}`}, {"malformed", `{"a":tru`},
		{"malformed", `{"a":True}`}, {"malformed", `{"a":truex}`}, {"malformed", `{"a":01}`},
		{"malformed", `{"a":-}`}, {"malformed", `{"a":-01}`}, {"malformed", `{"a":+1}`},
		{"malformed", `{"a":.5}`}, {"malformed", `{"a":1.}`}, {"malformed", `{"a":1.e5}`},
		{"malformed", `{"a":1e}`}, {"malformed", `{"a":1e+}`}, {"malformed", `{"a":0x1}`},
		{"malformed", `{"a":1_000}`}, {"malformed", `{"a":"`}, {"malformed", `{"a":"\`},
		{"malformed", `{"a":"\"}`}, {"malformed", `{"a":"\x"}`}, {"malformed", `{"a":"\u12"}`},
		{"malformed", `{"a":"\u123g"}`}, {"malformed", `{"a":"\U1234"}`}, {"malformed", `{"a":"\'"}`},
		{"malformed", "{\"a\":\"\n\"}"}, {"malformed", "{\"a\":\"\x00\"}"},
		{"malformed", "{\"a\":\"" + long + "\x1f\"}"}, {"malformed", "{\"a\x01\":1}"},
		{"malformed", "\xef\xbb\xbf{}"}, {"malformed", "{\v}"}, {"malformed", "{\u00a0}"},
		{"malformed", "/* */{}"}, {"malformed", "{}//"}, {"malformed", "hello"},
		{"not_object", "[]"}, {"not_object", "[{}]"}, {"not_object", "1"}, {"not_object", `"{}"`},
		{"not_object", "null"}, {"not_object", "true"}, {"not_object", " -1.5e3 "},
		{"bad_utf8", "{\"a\":\"\xff\"}"}, {"bad_utf8", "{\"a\":\"\xc0\x80\"}"},
		{"bad_utf8", "{\"a\":\"\xed\xa0\x80\"}"}, {"bad_utf8", "{\"a\":\"" + long + "\xe2\x82\"}"},
		{"bad_utf8", "{\"a\":\"\xf4\x90\x80\x80\"}"}, {"bad_utf8", "{\"\x80\":1}"},
		{"bad_utf8", `{"a":"\ud800"}`}, {"bad_utf8", `{"a":"\udc00"}`}, {"bad_utf8", `{"\ud800":1}`},
		{"bad_utf8", `{"a":"\ud800\ud800"}`}, {"bad_utf8", `{"a":"\ud800x"}`},
		{"bad_utf8", `{"a":"\ud800\n"}`}, {"bad_utf8", `{"a":"\ud800\u0041"}`},
		{"duplicate_key", `{"a":1,"a":1}`}, {"duplicate_key", `{"":1,"":2}`},
		{"duplicate_key", `{"a":1,"\u0061":1}`}, {"duplicate_key", `{"\u0061":1,"a":1}`},
		{"duplicate_key", `{"\u00e9":1,"é":1}`}, {"duplicate_key", `{"\ud83d\ude00":1,"😀":1}`},
		{"duplicate_key", `{"x":[{"b":1,"c":2,"b":3}]}`},
		{"duplicate_key", `{"` + long + `":1,"` + long + `":1}`},
		{"duplicate_key", `{"a":{"b":1},"a":{"c":1}}`},
		{"duplicate_key", strings.TrimSuffix(manyKeys(500, "%d"), "}") + `,"7":1}`},
		{"too_deep", deep(65)}, {"too_deep", strings.Repeat("[", 1400)},
		{"too_deep", strings.Repeat(`{"a":`, 200)},
		{"too_large", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`},
	} {
		if r := reason(s, c.text); r != c.want {
			t.Errorf("%.60q: %q, want %q", c.text, r, c.want)
		}
	}
}

// TestDuplicateAnywhere repeats each key of objects of many sizes in turn.
func TestDuplicateAnywhere(t *testing.T) {
	s := scanner(t, Fields{}, Limits{})
	for n := 1; n < 60; n++ {
		for i := range n {
			for _, format := range []string{"%d", "k%09d", `\u0041%d`} {
				object := manyKeys(n, format)
				inner := `{"o":` + object + `,"p":` + object + `,"0":[` + object + `]}`
				if r := reason(s, inner); r != "" {
					t.Fatalf("%s: %s", inner, r)
				}
				twice := strings.TrimSuffix(object, "}") + fmt.Sprintf(`,"`+format+`":0}`, i)
				if r := reason(s, `{"o":`+inner+`,"p":`+twice+`}`); r != "duplicate_key" {
					t.Fatalf("%s: %q", twice, r)
				}
			}
		}
	}
}

func TestErrorMessage(t *testing.T) {
	s := scanner(t, Fields{ID: "id"}, Limits{Depth: 2})
	for _, c := range []struct{ text, want string }{
		{`{"a":1,}`, `at byte 7: expected a key in quotes, found '}'`},
		{`{"a":`, `at byte 5: expected a value, found the end`},
		{`{"a" 1}`, `at byte 5: expected ':', found '1'`},
		{"{\"a\":\xff}", `at byte 5: expected a value, found byte 0xff`},
		{`{"a":"\ud800"}`, `at byte 6: expected both halves of a surrogate pair`},
		{"{\"a\":\"é\xff\"}", `at byte 8: expected UTF-8`},
		{`{"a":[[]]}`, `at byte 6: the event is nested deeper than the limit`},
		{`{"id":[]}`, `at byte 6: expected a string or a number as the id`},
	} {
		var env Envelope
		if err := s.Scan([]byte(c.text), &env); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
}

func TestEnvelope(t *testing.T) {
	s := scanner(t, Fields{ID: "id", Type: "meta.type", Source: "meta.from.name", Time: "ts",
		Key: "user.id"}, Limits{})
	for _, c := range []struct{ text, want string }{
		{`{}`, "||||0"},
		{`{"id":"x","meta":{"type":"t","from":{"name":"n"}},"ts":5,"user":{"id":7}}`,
			"x|t|n|7|5000000000"},
		{`{"id":-1.50e3,"meta":{"type":true,"from":{"name":false}},"user":{"id":"k"}}`,
			"-1.50e3|true|false|k|0"},
		{`{"id":null,"meta":null,"user":{"id":null},"ts":null}`, "||||0"},
		{`{"id":"a\n\u00e9\ud83d\ude00","user":{"\u0069d":"\"q\""}}`, "a\né😀|||\"q\"|0"},
		{`{"meta":[{"type":"no"}],"user":"no","x":{"id":"no"},"deep":{"user":{"id":"no"}}}`, "||||0"},
		{`{"x":[{"user":{"id":1}}],"user":{"x":{"id":2},"id":3}}`, "|||3|0"},
		{`{"meta":{"from":{"name":"late"},"type":"t2"},"id":""}`, "|t2|late||0"},
	} {
		var e Envelope
		if err := s.Scan([]byte(c.text), &e); err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got := fmt.Sprintf("%s|%s|%s|%s|%d", e.ID, e.Type, e.Source, e.Key, e.Time)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
	long := strings.Repeat("x", MaxText)
	if r := reason(s, `{"id":"`+long+`"}`); r != "" {
		t.Error("an id of MaxText bytes:", r)
	}
	for _, text := range []string{
		`{"id":{}}`, `{"id":[1]}`, `{"meta":{"type":{"a":1}}}`, `{"user":{"id":[]}}`,
		`{"id":"` + long + `x"}`, `{"ts":"yesterday"}`, `{"ts":true}`, `{"ts":{}}`, `{"ts":1e30}`,
	} {
		if r := reason(s, text); r != "bad_envelope" {
			t.Errorf("%.40s: %q", text, r)
		}
	}
}

func TestFieldsRefused(t *testing.T) {
	for _, f := range []Fields{{ID: "."}, {Key: "a."}, {Type: ".a"}, {Time: "a..b"}, {Key: "\xff"},
		{Source: strings.Repeat("a.", 16) + "a"}} {
		if _, err := NewScanner(f, Limits{}); err == nil {
			t.Errorf("%q was taken", f)
		}
	}
	for _, l := range []Limits{{EventBytes: -1}, {EventBytes: 1<<30 + 1}, {Depth: -1}, {Depth: 1001}} {
		if _, err := NewScanner(Fields{}, l); err == nil {
			t.Errorf("%v was taken", l)
		}
	}
}

// TestParseTime checks against the time package.
func TestParseTime(t *testing.T) {
	for _, text := range []string{
		"2006-01-02T15:04:05Z", "2024-02-29T23:59:59.999999999+05:30", "1969-12-31T23:59:59-00:01",
		"1970-01-01T00:00:00.5Z", "1700-03-01T00:00:00Z", "1900-02-28T12:00:00Z",
		"2000-02-29T12:00:00-23:59", "2261-12-31T00:00:00.1234567891Z", "2026-11-24T12:47:35.25+01:00",
	} {
		want, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{text, strings.ToLower(text), strings.Replace(text, "T", " ", 1)} {
			if ns, ok := parseTime([]byte(form)); !ok || ns != want.UnixNano() {
				t.Errorf("%s: %d %v, want %d", form, ns, ok, want.UnixNano())
			}
		}
	}
	for at := time.Unix(-9e9, 0).UTC(); at.Unix() < 9e9; at = at.Add(86400*17*time.Second + 4321e9) {
		text := at.Format(time.RFC3339Nano)
		if ns, ok := parseTime([]byte(text)); !ok || ns != at.UnixNano() {
			t.Fatalf("%s: %d %v", text, ns, ok)
		}
	}
	if ns, ok := parseTime([]byte("2016-12-31T23:59:60Z")); !ok || ns != 1483228800e9 {
		t.Error("a leap second:", ns, ok)
	}
	for _, text := range []string{
		"", "2006-01-02", "2006-01-02T15:04:05", "2006-01-02T15:04:05.Z", "2006-13-02T15:04:05Z",
		"2006-02-29T15:04:05Z", "2006-04-31T15:04:05Z", "1900-02-29T00:00:00Z", "2006-01-02T24:04:05Z",
		"2006-01-02T15:60:05Z", "2006-01-02T15:04:61Z", "2006-01-02T15:04:05+0100",
		"2006-01-02T15:04:05+01:60", "2006-01-02T15:04:05ZZ", "2006-01-02X15:04:05Z", "0001-01-01T00:00:00Z",
		"9999-01-01T00:00:00Z", "2006-01-0aT15:04:05Z", "2006/01/02T15:04:05Z", "+2006-01-02T15:04:05Z",
	} {
		if ns, ok := parseTime([]byte(text)); ok {
			t.Errorf("%q was taken as %d", text, ns)
		}
	}
}

func TestParseUnix(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
	}{
		{"0", 0}, {"1", 1e9}, {"1.5", 15e8}, {"1700000000", 17e17}, {"-1.25", -125e7},
		{"1700000000.123456789", 1700000000123456789}, {"1700000000123", 1700000000123e6},
		{"1700000000123.5", 17000000001235e5}, {"1700000000123456", 1700000000123456e3},
		{"1700000000123456789", 1700000000123456789}, {"1.7e9", 17e17}, {"17e11", 17e17},
		{"-1700000000123", -1700000000123e6},
	} {
		if ns, ok := parseUnix([]byte(c.text)); !ok || ns != c.want {
			t.Errorf("%s: %d %v, want %d", c.text, ns, ok, c.want)
		}
	}
	for _, text := range []string{"9999999999", "99999999999999", "99999999999999999", "1e19", "1e400",
		"123456789012345678901234567890", "9223372036854775808"} {
		if ns, ok := parseUnix([]byte(text)); ok {
			t.Errorf("%s was taken as %d", text, ns)
		}
	}
}

// items walks over a body and gives each item as its text or its reason.
func items(s *Scanner, data string, shape Shape) string {
	var env Envelope
	var out []string
	body := s.Body([]byte(data), shape)
	for i := 0; body.Next(&env); i++ {
		switch {
		case body.Index != i:
			out = append(out, "BAD INDEX")
		case body.Err != nil && body.JSON != nil:
			out = append(out, "BOTH")
		case body.Err != nil:
			out = append(out, body.Err.Reason.String())
		default:
			out = append(out, string(body.JSON))
		}
	}
	if body.Cut {
		out = append(out, "cut")
	}
	return strings.Join(out, " ")
}

func TestBody(t *testing.T) {
	s := scanner(t, Fields{ID: "id"}, Limits{Depth: 3, EventBytes: 40})
	big := `{"a":"` + strings.Repeat("x", 50) + `"}`
	for _, c := range []struct {
		shape      Shape
		data, want string
	}{
		{Lines, "", ""}, {Lines, "\n\r\n \t\n", ""}, {Lines, "{}", "{}"}, {Lines, "{}\r\n\r\n{}\r\n", "{} {}"},
		{Lines, "{}\nx\n{\"a\":1}\n[]", "{} malformed {\"a\":1} not_object"},
		{Lines, "{\"a\":\n1}", "malformed malformed"}, {Lines, big + "\n{}", "too_large {}"},
		{Lines, "{}{}\n{}", "malformed {}"},
		{Value, "{}", "{}"}, {Value, " {} \n", "{}"}, {Value, "{}\n{}", "malformed"}, {Value, "", "malformed"},
		{Value, "[]", ""}, {Value, " [ ] ", ""}, {Value, "[] x", "malformed cut"},
		{Value, "[{},{}]", "{} {}"}, {Value, " [ {} , {\"a\":1} ] ", `{} {"a":1}`},
		{Value, `[1,{},"x",[{}],null,{}]`, "not_object {} not_object not_object not_object {}"},
		{Value, `[{"a":1,"a":[2,{"a":3}]},{}]`, "duplicate_key {}"},
		{Value, `[{"a":{"b":{"c":[{"d":1}]}}},{}]`, "too_deep {}"},
		{Value, `[{"id":{}},{"id":3}]`, `bad_envelope {"id":3}`},
		{Value, "[{\"a\":\"\xff\"},{\"a\":\"\\ud800\\\"\"},{}]", "bad_utf8 bad_utf8 {}"},
		{Value, "[" + big + ",{}," + big + "]", "too_large {} too_large"},
		{Value, `[{},{"a":01},{}]`, "{} malformed cut"}, {Value, `[{},`, "{} malformed cut"},
		{Value, `[{}`, "{} malformed cut"}, {Value, `[{} {}]`, "{} malformed cut"},
		{Value, `[{}}`, "{} malformed cut"}, {Value, `[{},]`, "{} malformed cut"},
		{Value, `[,{}]`, "malformed cut"}, {Value, `[{}]]`, "{} malformed cut"},
		{Value, `[{},{"a":1,"a":01},{}]`, "{} malformed cut"},
		{Value, "[{}," + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + ",{}]", "{} too_deep {}"},
		{Value, "[{}," + strings.Repeat("[", 50000), "{} too_deep cut"},
		{Object, "[{}]", "not_object"}, {Object, "{}", "{}"},
		{Array, "{}", "malformed cut"}, {Array, "", "malformed cut"}, {Array, "[{}]", "{}"},
	} {
		if got := items(s, c.data, c.shape); got != c.want {
			t.Errorf("%d %.50q: %q, want %q", c.shape, c.data, got, c.want)
		}
	}
}

func TestCloud(t *testing.T) {
	s, err := NewCloudScanner(Fields{ID: "ignored", Key: "user.id"}, Limits{Depth: 2})
	if err != nil {
		t.Fatal(err)
	}
	attributes := `"specversion":"1.0","id":"1","source":"/s","type":"t"`
	for _, c := range []struct{ text, want string }{
		{`{` + attributes + `,"data":{"a":1}}`, `{"a":1} 1 t /s  0`},
		{`{"data": {"user":{"id":5}} ,` + attributes + `,"time":"1970-01-01T00:00:01Z"}`,
			`{"user":{"id":5}} 1 t /s 5 1000000000`},
		{`{` + attributes + `,"partitionkey":"p","data":{}}`, `{} 1 t /s p 0`},
		{`{` + attributes + `,"partitionkey":"p","data":{"user":{"id":"u"}},"user":{"id":"no"}}`,
			`{"user":{"id":"u"}} 1 t /s u 0`},
		{`{` + attributes + `,"data":{"a":[[]]}}`, "too_deep"},
		{`{` + attributes + `}`, "not_object"}, {`{` + attributes + `,"data":null}`, "not_object"},
		{`{` + attributes + `,"data":"x"}`, "not_object"}, {`{` + attributes + `,"data":[]}`, "not_object"},
		{`{` + attributes + `,"data_base64":"AAAA"}`, "not_object"},
		{`{"specversion":"1.0","id":"1","source":"/s","data":{}}`, "bad_envelope"},
		{`{"specversion":"1.0","id":"","source":"/s","type":"t","data":{}}`, "bad_envelope"},
		{`{"specversion":"1.0","id":1,"source":"/s","type":"t","data":{}}`, "bad_envelope"},
		{`{"specversion":"1.0","id":"1","type":"t","data":{}}`, "bad_envelope"},
		{`{"id":"1","source":"/s","type":"t","data":{}}`, "bad_envelope"},
		{`{"specversion":"0.3","id":"1","source":"/s","type":"t","data":{}}`, "bad_envelope"},
		{`{` + attributes + `,"time":5,"data":{}}`, "bad_envelope"},
		{`{` + attributes + `,"time":"no","data":{}}`, "bad_envelope"},
	} {
		for _, shape := range []Shape{Object, Array, Lines} {
			data := c.text
			if shape == Array {
				data = "[" + data + "]"
			}
			var e Envelope
			body := s.Body([]byte(data), shape)
			got := ""
			for body.Next(&e) {
				if body.Err != nil {
					got += body.Err.Reason.String()
					continue
				}
				got += fmt.Sprintf("%s %s %s %s %s %d", body.JSON, e.ID, e.Type, e.Source, e.Key, e.Time)
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", data, got, c.want)
			}
		}
	}
}

func TestScanAllocates(t *testing.T) {
	s := scanner(t, Fields{ID: "id", Type: "type", Time: "ts", Key: "user.id"}, Limits{})
	texts := [][]byte{[]byte(ordinary), []byte(manyKeys(200, "%d")), []byte(`{"id":"\u0041","ts":17e8}`),
		[]byte(`{"a":1,}`), []byte(`{"a":1,"a":2}`), []byte(strings.Repeat("[", 1400))}
	if n := testing.AllocsPerRun(100, func() {
		var env Envelope
		for _, text := range texts {
			_ = s.Scan(text, &env)
		}
		for body := s.Body(texts[0], Lines); body.Next(&env); {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestKeptMemory sees that one huge event does not keep its memory.
func TestKeptMemory(t *testing.T) {
	s := scanner(t, Fields{}, Limits{})
	if r := reason(s, manyKeys(60_000, `\u0041%d`)); r != "" {
		t.Fatal(r)
	}
	reason(s, "{}")
	if cap(s.keys.list) > keepKeys || cap(s.scratch) > keepScratch || len(s.keys.table) > 4*keepKeys {
		t.Error(cap(s.keys.list), cap(s.scratch), len(s.keys.table))
	}
}

const ordinary = `{"id":"8f14e45f-ceea-467f-a1d6-9e2c7d3b5a10","type":"payment.authorized",` +
	`"ts":"2026-03-14T09:26:53.589Z","amount":149.95,"currency":"EUR","user":{"id":"u-184467",` +
	`"country":"DE","email":"someone@example.com"},"card":{"brand":"visa","last4":"4242"},` +
	`"items":[{"sku":"A-100","qty":2},{"sku":"B-200","qty":1}],"note":"deliver to the back door"}`

// accepts is the reference: the standard library, and the rules that it does not have.
func accepts(data []byte) bool {
	if !json.Valid(data) || !utf8.Valid(data) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	depth := 0
	var open []map[string]bool // keys of the objects that are open; nil for an array
	wantKey := false
	for first := true; ; first = false {
		tok, err := d.Token()
		if err != nil {
			break
		}
		if first && tok != json.Delim('{') {
			return false
		}
		if name, ok := tok.(string); ok && wantKey {
			keys := open[len(open)-1]
			if keys[name] {
				return false
			}
			keys[name] = true
			wantKey = false
			continue
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			var keys map[string]bool
			if tok == json.Delim('{') {
				keys = map[string]bool{}
			}
			open = append(open, keys)
			if depth++; depth > defaultDepth {
				return false
			}
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			depth--
		}
		wantKey = len(open) > 0 && open[len(open)-1] != nil
	}
	return !loneSurrogate(data)
}

// loneSurrogate finds half a pair of \u escapes in valid JSON.
func loneSurrogate(data []byte) bool {
	text := strings.ReplaceAll(string(data), `\\`, "")
	for i := 0; i+6 <= len(text); i++ {
		if text[i:i+2] != `\u` {
			continue
		}
		var r, low rune
		fmt.Sscanf(text[i+2:i+6], "%x", &r)
		switch {
		case r >= 0xDC00 && r <= 0xDFFF:
			return true
		case r >= 0xD800 && r <= 0xDBFF:
			if i+12 > len(text) || text[i+6:i+8] != `\u` {
				return true
			}
			fmt.Sscanf(text[i+8:i+12], "%x", &low)
			if low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 11
		}
	}
	return false
}

// FuzzScan holds the scanner against the standard library, alone, in a line and in an array.
func FuzzScan(f *testing.F) {
	for _, text := range []string{ordinary, `{"a":[1,{"b":"\ud83d\ude00"}],"c":-0.5e1}`, deep(65), "[[",
		`{"a":1,"a":2}`, manyKeys(40, "%d"), manyKeys(20, "%d")[:99] + `,"3":1}`, `{"a":"\\ud800"}`} {
		f.Add([]byte(text))
	}
	fields := Fields{ID: "a", Key: "b.c"}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, with := scanner(t, Fields{}, Limits{}), scanner(t, fields, Limits{})
		var env Envelope
		for range 2 { // the second time with what the first one left behind
			err := s.Scan(data, &env)
			if want := accepts(data); (err == nil) != want {
				t.Fatalf("%q: %v, want %v", data, err, want)
			}
			if e := with.Scan(data, &env); err != nil && e == nil ||
				err == nil && e != nil && e.(*Error).Reason != BadEnvelope {
				t.Fatalf("%q: %v, with fields %v", data, err, e)
			}
		}
		good := s.Scan(data, &env) == nil
		array := append(append([]byte(`[{"x":1},`), data...), `,{"y":2}]`...)
		n, last := 0, ""
		body := s.Body(array, Array)
		for ; body.Next(&env); n++ {
			last = string(body.JSON)
			if body.Err == nil && !accepts(body.JSON) {
				t.Fatalf("%q of %q was taken", body.JSON, array)
			}
		}
		if json.Valid(array) != (!body.Cut) && !strings.Contains(string(data), strings.Repeat("[", 99)) {
			t.Fatalf("%q: cut %v", array, body.Cut)
		}
		if good && (n != 3 || last != `{"y":2}`) {
			t.Fatalf("%q: %d items, the last %s", array, n, last)
		}
	})
}

// BenchmarkScan measures ordinary events, in bytes a second, and how long the worst 1,400 bytes
// hold up a reader.
func BenchmarkScan(b *testing.B) {
	fields := Fields{ID: "id", Type: "type", Time: "ts", Key: "user.id"}
	fill := func(unit string) string { return strings.Repeat(unit, 1400/len(unit)) }
	for _, c := range []struct{ name, text string }{
		{"ordinary", ordinary},
		{"text", `{"a":"` + strings.Repeat("plain text ", 120) + `"}`},
		{"refuse/arrays", fill("[")},
		{"refuse/objects", fill(`{"":`)},
		{"refuse/keys", strings.TrimSuffix(manyKeys(190, "%d"), "}")},
		{"refuse/keys16", `{"a":[` + fill(manyKeys(16, "%x")+",")},
		{"refuse/keysLong", strings.TrimSuffix(manyKeys(60, "0123456789abcde%d"), "}")},
		{"refuse/keysEscaped", strings.TrimSuffix(manyKeys(115, `\u0041%d`), "}")},
		{"refuse/empty", `{"a":[` + fill("{},")},
		{"refuse/nested", `{"a":[` + fill(`{"":[{"":0}]},`)},
		{"refuse/zeros", `{"a":[` + fill("0,")},
		{"refuse/strings", `{"a":[` + fill(`"",`)},
		{"refuse/escapes", `{"a":"` + fill(`\n`)},
		{"refuse/unicode", `{"a":"` + fill(`\u00e9`)},
		{"refuse/utf8", `{"a":"` + fill("é") + `"`},
		{"refuse/utf8short", `{"a":[` + fill(`"é",`)},
		{"refuse/spaces", fill(" ") + "x"},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := scanner(b, fields, Limits{})
			text := []byte(c.text)
			if strings.HasPrefix(c.name, "refuse") {
				text = text[:min(len(text), 1400)]
			}
			var env Envelope
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Scan(text, &env)
			}
		})
	}
}
