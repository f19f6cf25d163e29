package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// verb runs the program in this process, as a user would call it.
func verb(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// good runs a verb against the server and expects exit code 0, nothing on stderr, and texts in what
// it prints, which it returns; a text after "!" must not be there. The token comes from the data
// folder.
func (p *program) good(dir, stdin string, args []string, want ...string) string {
	p.t.Helper()
	args = append(slices.Clone(args), "--server", p.url, "--data-dir", dir)
	code, out, errs := verb(p.t, stdin, args...)
	if code != 0 || errs != "" {
		p.t.Errorf("%q: exit code %d: %s", args, code, errs)
	}
	for _, text := range want {
		text, not := strings.CutPrefix(text, "!")
		if strings.Contains(squeezed(out), text) == not {
			p.t.Errorf("%q printed\n%s\nexpected in it: %v %q", args, out, !not, text)
		}
	}
	return out
}

// bad runs a verb against the server and expects exit code 1 and a text in one line on stderr.
func (p *program) bad(dir, stdin string, args []string, want string) {
	p.t.Helper()
	args = append(slices.Clone(args), "--server", p.url, "--data-dir", dir)
	code, _, errs := verb(p.t, stdin, args...)
	if code != 1 || !strings.HasPrefix(errs, "wasmeval: ") || !strings.Contains(errs, want) ||
		strings.Count(errs, "\n") != 1 {
		p.t.Errorf("%q: exit code %d, error %q; expected 1 and %q", args, code, errs, want)
	}
}

// received waits until the server has the events of one source, and returns its account.
func (p *program) received(source string, n int64) account {
	p.t.Helper()
	var a account
	for range 1000 {
		if a = p.ledger(); a.Sources[source].Received >= n && a.InFlight == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	a.holds(p.t)
	if got := a.Sources[source].Received; got != n {
		p.t.Errorf("the server received %d events by %s, expected %d", got, source, n)
	}
	return a
}

// metricOf reads one figure without labels.
func metricOf(t *testing.T, p *program, name string) float64 {
	t.Helper()
	_, text := p.call("GET", "/metrics", "", nil)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

var spaces = regexp.MustCompile(` +`)

// squeezed makes the columns of a table one space apart.
func squeezed(text string) string { return spaces.ReplaceAllString(text, " ") }

// The life of a rule, by the verbs that a user has.
func TestRulesVerbs(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	events := writeFile(t, "events.ndjson", "{\"id\":\"a\"}\n[{\"id\":\"b\"},\n {\"id\":\"c\"}]\n")
	for _, c := range []struct {
		args string // with M/ for the modules
		want []string
	}{
		{"list", []string{"RULE ACTIVE VERSIONS STATE UPDATED MATCH DESCRIPTION\n"}},
		{"push limit M/params --no-activate", []string{"limit version 1 is new, sha256 ",
			"; active: none\n"}},
		{"list", []string{"limit - 1 inactive "}},
		{"show limit", []string{"state inactive\n", "active none of 1\n"}},
		{"activate limit 1", []string{"generation ", "; lost 0; running: version 1\n"}},
		{"push limit M/params", []string{"limit version 1 was there already", "active: version 1\n"}},
		{"show limit", []string{"state active\n", "previous none\n", "match *\n", "!fuel", "!on failure",
			"param i i64 = 7 (default): \n", `param s utf8 = "text" (default)`}},
		{"push limit M/v1", []string{"limit version 2 is new", "active: version 2\n", "; lost 0; running: version 2\n"}},
		{"versions limit", []string{fmt.Sprintf("\n1 - %d ", len(readModule(t, "params"))),
			fmt.Sprintf("\n2 yes %d ", len(readModule(t, "v1"))), "admin"}},
		{"list", []string{"limit version 2 2 active", " * v1\n"}},
		{"rollback limit", []string{"generation "}},
		{"show limit", []string{"active version 1 of 2\n", "previous version 2\n"}},
		{"configure limit --param i=9 --param s=hello --param f=2.5 --fuel 50000 " +
			"--on-failure fail_closed --fail-code 9", []string{"generation "}},
		{"show limit", []string{"fuel 50000 an event\n", "on failure fail_closed\n", "fail code 9\n",
			"param i i64 = 9: \n", `param s utf8 = "hello": `, "param f f64 = 2.5: \n",
			"param b bool = true (default)"}},
		{"configure limit --param i=10", []string{"generation "}},
		{"show limit", []string{"param i i64 = 10: \n", `param s utf8 = "hello"`, "fail code 9\n"}},
		{`configure limit --on-failure default_verdict --fail-payload {"a":1}`, []string{"generation "}},
		{"show limit", []string{"on failure default_verdict\n", "fail code 9\n", `fail payload {"a":1}`}},
		{"configure limit --reset --param b=false", []string{"generation "}},
		{"show limit", []string{"param i i64 = 7 (default)", "param b bool = false: \n", "!fail code"}},
		{"test limit --events " + events, []string{"event 0: code 1, fuel ", "event 2: code 1", `"i":7`}},
		{"test limit --events " + events + " --param i=11", []string{`"i":11`}},
		{"configure limit --reset", []string{"generation "}},
		{"test limit --events " + events + " --version 2", []string{"event 2: code 1", "!payload"}},
		{"configure limit --param i=20", []string{"generation "}},
		{"push limit M/v2 --reset", []string{"limit version 3 is new", "running: version 3\n"}},
		{"versions limit", []string{` {"params":{"i":20}}` + "\n", "3 yes "}},
		{"rollback limit", []string{"running: version 1\n"}},
		{"show limit", []string{"param i i64 = 20: \n"}},
		{"configure limit --reset", []string{"generation "}},
		{"disable limit", []string{"running: none\n"}},
		{"list", []string{"limit version 1 3 disabled"}},
		{"enable limit", []string{"generation "}},
		{"audit", []string{"SEQ TIME BY ACTION RULE VERSION\n", " admin put limit version 2\n",
			" admin rollback limit version 1\n", " admin configure limit ", " admin disable limit "}},
		{"audit limit --limit 1", []string{" admin enable limit ", "!admin disable limit"}},
		{"push other.rule M/always", []string{"other.rule version 1 is new"}},
		{"audit other.rule", []string{" admin put other.rule version 1\n", "!limit"}},
		{"delete other.rule", []string{"generation "}},
		{"list", []string{"limit version 1 3 active", "!other.rule"}},
	} {
		p.good(dir, "", ruleArgs(c.args), c.want...)
	}
}

// What goes wrong is told with the rule's name and the server's reason.
func TestRulesFaults(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.upload("limit", "params")
	p.upload("once", "always")
	events := writeFile(t, "events.ndjson", "{}\n")
	none := filepath.Join(dir, "none")
	for _, c := range []struct{ args, want string }{
		{"show none", `cannot show rule "none": `},
		{"show none", "(404 not_found)"},
		{"versions none", `cannot list versions of rule "none": `},
		{"activate limit 9", `cannot activate version 9 of rule "limit": `},
		{"activate limit x", `version "x": expected a number from 1`},
		{"activate limit 0", `version "0": expected a number from 1`},
		{"activate limit", "accepts 2 arg(s), received 1"},
		{"rollback once", `cannot rollback rule "once": `},
		{"delete none", `cannot delete rule "none": `},
		{"enable none", `cannot enable rule "none": `},
		{"disable none", `cannot disable rule "none": `},
		{"configure limit", "nothing to change: expected --param"},
		{"configure none --fuel 5", `cannot configure rule "none": `},
		{"configure limit --param i", `--param "i": expected name=value`},
		{"configure limit --param =1", `--param "=1": expected name=value`},
		{"configure limit --param i=text", `param "i" is "text": expected a value of type i64`},
		{"configure limit --param x=1", `param "x" is not declared`},
		{"configure limit --param i=13", `i is 13: expected luck`}, // the module itself refuses it
		{"configure limit --on-failure explode", "fail_open or fail_closed"},
		{"configure limit --fail-payload 1", "default_verdict only"},
		{"configure limit --on-failure default_verdict --fail-payload {", "expected JSON"},
		{"push limit " + none, fmt.Sprintf("cannot read module %q: no such file or directory", none)},
		{"push limit " + events, "no WebAssembly module"},
		{"push limit M/badabi", "(422 bad_module)"},
		{"push UPPER M/always", "not a rule name"},
		{"push a/b M/always", "not a rule name"},
		{"push .. M/always", "cannot push rule"},
		{"push limit M/params --param i=13", "(422 "},
		{"push withparam M/always --param i=1", `param "i" is not declared by the rule (422`},
		{"test limit", `required flag(s) "events" not set`},
		{"test limit --events " + none, "cannot read events"},
		{"test none --events " + events, `cannot test rule "none": `},
		{"test limit --version 7 --events " + events, "no version 7"},
		{"test limit --events " + events + " --param i=x", "expected a value of type i64"},
		{"audit --limit 0", "cannot read the audit trail: "},
		{"lst", `unknown command "lst" for "wasmeval rules"`},
		{"push limit M/params --fuel -1", `--fuel "-1": expected a whole number from 0`},
		{"push limit M/params --fail-code 5000000000", `--fail-code "5000000000": expected a whole number of 32 bits`},
		{"test limit --events x --version -1", `--version "-1": expected a whole number from 0, of 32 bits`},
		{"push limit M/params --reset=perhaps", `--reset "perhaps": expected true or false`},
		{"list --no-such-flag", "unknown flag: --no-such-flag"},
	} {
		p.bad(dir, "", ruleArgs(c.args), c.want)
	}
}

// ruleArgs splits the arguments of `rules`, with M/ for the modules.
func ruleArgs(text string) []string {
	args := []string{"rules"}
	for _, a := range strings.Fields(text) {
		if name, ok := strings.CutPrefix(a, "M/"); ok {
			a = modulePath(name)
		}
		args = append(args, a)
	}
	return args
}

// What was tested goes through stdin too, and what cannot be read is told with its place.
func TestRulesTestInput(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.upload("only", "columns")
	args := []string{"rules", "test", "only", "--events", "-"}
	p.good(dir, `{"f64":1.5,"i64":"x","utf8":"a\u001b[31mb"}`, args, "event 0: code 1, fuel ",
		"field f64 f64 1.5\n", "field i64 i64 not valid\n", `field utf8 utf8 "a`)
	p.bad(dir, `{"a":1} {`, args, `cannot read events "-": after 1 of them: `)
	p.bad(dir, "", args, "0 events")
	p.bad(dir, `{} 3`, args, "event 1")
	p.upload("traps", "trap")
	p.good(dir, `{"bad":1} {"bad":0}`, []string{"rules", "test", "traps", "--events", "-"},
		"event 0: failed: trap: ", "event 1: code 1, ")
}

// With --json every verb prints the server's answer, and nothing else.
func TestRulesJSON(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	events := writeFile(t, "events.ndjson", "{}\n")
	for _, c := range []struct{ args, key string }{
		{"push r M/params", "sha256"},
		{"push r M/v2", "swap"},
		{"list", "rules"},
		{"show r", "manifest"},
		{"versions r", "versions"},
		{"rollback r", "generation"},
		{"activate r 2", "drained"},
		{"configure r --fuel 9000", "took_us"},
		{"test r --events " + events, "verdicts"},
		{"audit", "audit"},
		{"disable r", "lost"},
		{"enable r", "lost"},
		{"delete r", "lost"},
	} {
		out := p.good(dir, "", append(ruleArgs(c.args), "--json"))
		var answer map[string]json.RawMessage
		if err := json.Unmarshal([]byte(out), &answer); err != nil || answer[c.key] == nil {
			t.Errorf("%s --json printed %s (%v), expected an object with %s", c.args, out, err, c.key)
		}
	}
	p.bad(dir, "", []string{"rules", "show", "r", "--json"}, "(404 not_found)")
}

// A verb finds its server and its token as its help says, and says what is missing.
func TestFindServer(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	p := launch(t, dir)
	list := []string{"rules", "list"}
	p.bad(other, "", list, fmt.Sprintf("(401 no_token): there is no admin.token in data folder %q",
		other))
	p.good(other, "", append(list, "--token", p.token))
	p.bad(dir, "", append(list, "--token", "wev_wrong"), "(401 bad_token)")
	t.Setenv("WASMEVAL_TOKEN", p.token)
	p.good(other, "", list)
	t.Setenv("WASMEVAL_TOKEN", "wev_wrong")
	p.bad(dir, "", list, "(401 bad_token)")
	p.good(dir, "", append(list, "--token", p.token))
	t.Setenv("WASMEVAL_TOKEN", "")
	t.Setenv("WASMEVAL_SERVER", p.url+"/")
	t.Setenv("WASMEVAL_DATA_DIR", dir)
	if code, out, errs := verb(t, "", list...); code != 0 || !strings.HasPrefix(out, "RULE") {
		t.Errorf("by variables: exit code %d, %s %s", code, out, errs)
	}
	for server, want := range map[string]string{
		"127.0.0.1:8080":     `server "127.0.0.1:8080": expected a URL such as`,
		"ftp://127.0.0.1":    "expected a URL such as",
		"http://":            "expected a URL such as",
		"http://127.0.0.1:1": `cannot list rules: cannot reach the server at "http://127.0.0.1:1": `,
	} {
		code, _, errs := verb(t, "", "rules", "list", "--server", server)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("server %s: exit code %d, %s", server, code, errs)
		}
	}
	// The token of the data folder is for a server on this machine alone.
	c, err := newClient("http://192.0.2.1:80", "", dir)
	if err != nil || c.token != "" || c.noHope == nil {
		t.Errorf("a strange server gets the token %q, error %v", c.token, err)
	}
}

// An answer of whatever sort becomes one line that does not speak to the terminal, and a redirect
// does not carry the token away.
func TestStrangeAnswers(t *testing.T) {
	reached := false
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/rules", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { reached = true })
	mux.HandleFunc("/v1/audit", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "bad\x1b[31m\nnews", http.StatusBadGateway)
	})
	mux.HandleFunc("/v1/rules/a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"code":"x","detail":"a\u001b[2Jb\nc"}`)
	})
	mux.HandleFunc("/v1/ledger", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "no JSON")
	})
	mux.HandleFunc("/v1/rules/b", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "no JSON")
	})
	mux.HandleFunc("/v1/rules/c", func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})
	server := "http://" + serveLoopback(t, &http.Server{Handler: mux})
	for args, want := range map[string]string{
		"rules list":   "(307 Temporary Redirect)\n",
		"rules audit":  "cannot read the audit trail: bad [31m news (502 Bad Gateway)\n",
		"rules show a": "cannot show rule \"a\": a [2Jb c (409 x)\n",
		"rules show b": "cannot read the answer of",
		"rules show c": "cannot reach the server at",
	} {
		all := append(strings.Fields(args), "--server", server, "--token", "secret")
		code, _, errs := verb(t, "", all...)
		if code != 1 || !strings.Contains(errs, want) || strings.Contains(errs, "\x1b") {
			t.Errorf("%s: exit code %d, %q; expected %q", args, code, errs, want)
		}
	}
	if code, out, _ := verb(t, "", "ledger", "--server", server); code != 0 || out != "no JSON\n" {
		t.Errorf("what is no JSON is printed as %q", out)
	}
	if reached {
		t.Error("the client followed a redirect")
	}
}

func TestLedgerVerb(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	status, text := p.call("POST", "/v1/events", "application/x-ndjson", []byte("{}\n{}\n{\n"))
	if status != 202 {
		t.Fatalf("%d %s", status, text)
	}
	p.received("http", 3)
	var a account
	if err := json.Unmarshal([]byte(p.good(dir, "", []string{"ledger"})), &a); err != nil {
		t.Fatal(err)
	}
	if a.holds(t); a.Received != 3 || a.Evaluated != 2 || a.Rejected["malformed"] != 1 {
		t.Errorf("the ledger is %+v", a)
	}
	p.bad(t.TempDir(), "", []string{"ledger"}, "cannot read the ledger: ")
	p.bad(dir, "", []string{"ledger", "x"}, `unknown command "x" for "wasmeval ledger"`)
}

// What is misspelt is a fault and exit code 1; help is none.
func TestUnknownCommands(t *testing.T) {
	for _, args := range []string{"foo", "rules foo", "bench foo", "serve foo", "check foo",
		"tail foo", "rules list foo", "serve --foo", "rules --foo", "bench bus foo", "demo foo"} {
		code, _, errs := verb(t, "", strings.Fields(args)...)
		if code != 1 || !strings.Contains(errs, "foo") {
			t.Errorf("%s: exit code %d, %s", args, code, errs)
		}
	}
	for _, args := range []string{"", "rules", "bench", "--help", "serve --help", "rules push --help",
		"--version"} {
		code, out, errs := verb(t, "", strings.Fields(args)...)
		if code != 0 || out == "" || errs != "" {
			t.Errorf("%q: exit code %d, %q %s", args, code, out, errs)
		}
	}
}
