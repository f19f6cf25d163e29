package ingest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

const (
	plain  = "application/json"
	byLine = "application/x-ndjson"
	ndjson = "Content-Type: " + byLine
)

// huge is a text that no event of TestEvents may have.
var huge = strings.Repeat("x", 10_000)

// bodies have events whose member n is their index, and items that are none. The word cut at the
// end says that the rest of the body is not read.
var bodies = []struct{ name, kind, body, items string }{
	{"object", plain, `{"n":0}`, "ok"},
	{"object without a type", "", `{"n":0}`, "ok"},
	{"object with charset", "application/json; charset=UTF-8", `{"n":0}`, "ok"},
	{"type in capitals", "Application/JSON", `{"n":0}`, "ok"},
	{"object in white space", plain, " \r\n{\"n\":0}\t\n", "ok"},
	{"empty array", plain, " [ ] ", ""},
	{"array", plain, array(numbered(3)), "ok ok ok"},
	{"array in white space", plain, "\n[ {\"n\":0}\n,\r\n{\"n\":1} ]\n", "ok ok"},
	{"array of other things", plain, `[1,{"n":1},[],"x",null,{"n":5}]`,
		"not_object ok not_object not_object not_object ok"},
	{"array with a bad item", plain, `[{"n":0},{"n":1,"n":1},{"n":2}]`,
		"ok duplicate_key ok"},
	{"array cut off after an item", plain, `[{"n":0},{"n":1}`, "ok ok malformed cut"},
	{"array cut off in an item", plain, `[{"n":0},{"n":1`, "ok malformed cut"},
	{"array without a comma", plain, `[{"n":0} {"n":1}]`, "ok malformed cut"},
	{"array with a comma too many", plain, `[{"n":0},]`, "ok malformed cut"},
	{"array with a broken item", plain, `[{"n":0},{"n":},{"n":2}]`, "ok malformed cut"},
	{"array with something after it", plain, `[{"n":0}] 1`, "ok malformed cut"},
	{"two objects", plain, `{"n":0}{"n":1}`, "malformed"},
	{"white space", plain, " \n ", "malformed"},
	{"number", plain, `7`, "not_object"},
	{"NaN", plain, `{"n":NaN}`, "malformed"},
	{"control character", plain, "{\"n\":\"\x01\"}", "malformed"},
	{"byte order mark", plain, "\xef\xbb\xbf{\"n\":0}", "malformed"},
	{"key twice", plain, `{"n":0,"n":0}`, "duplicate_key"},
	{"key twice, once in escapes", plain, `{"n":0,"\u006e":0}`, "duplicate_key"},
	{"not UTF-8", plain, "{\"n\":\"\xff\"}", "bad_utf8"},
	{"half a surrogate pair", plain, `{"n":"\ud800"}`, "bad_utf8"},
	{"deep", plain, `{"n":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
		"too_deep"},
	{"opening brackets", plain, strings.Repeat("[", 9_000), "malformed cut"},
	{"more opening brackets", plain, strings.Repeat("[", 1_000_000), "too_deep cut"},
	{"opening braces", plain, strings.Repeat(`{"a":`, 1_000), "too_deep"},
	{"huge", plain, `{"n":"` + huge + `"}`, "too_large"},
	{"huge in an array", plain, `[{"n":"` + huge + `"},{"n":1}]`, "too_large ok"},
	{"lines", byLine, lines(numbered(3)), "ok ok ok"},
	{"lines, other name", "application/ndjson", lines(numbered(3)), "ok ok ok"},
	{"lines, third name", "application/jsonl", lines(numbered(3)), "ok ok ok"},
	{"lines without the last newline", byLine, "{\"n\":0}\n{\"n\":1}", "ok ok"},
	{"lines with CRLF", byLine, "{\"n\":0}\r\n{\"n\":1}\r\n", "ok ok"},
	{"blank lines", byLine, "\n\r\n \t\n{\"n\":0}\n\n\n{\"n\":1}\n \n", "ok ok"},
	{"only blank lines", byLine, "\n\r\n \n", ""},
	{"bad lines among good ones", byLine,
		"{\"n\":0}\n{\n{\"n\":2}\n[]\n{\"n\":4} {}\n{\"n\":\"\xff\"}\n{\"n\":6}\n" +
			strings.Repeat("[", 5_000) + "\n" + huge + "\n{\"n\":9}",
		"ok malformed ok not_object malformed bad_utf8 ok too_deep too_large ok"},
	{"array in lines", byLine, array(numbered(2)), "not_object"},
}

func TestEvents(t *testing.T) {
	for _, c := range bodies {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{Limits: event.Limits{EventBytes: len(huge) - 1}}, 2, smallRing)
			text, cut := strings.CutSuffix(c.items, " cut")
			list := itemsOf(text)
			a := w.post(c.body, "Content-Type: "+c.kind)
			if list.bad() == len(list) && len(list) > 0 {
				a.expect(t, http.StatusBadRequest, "no_good_event")
			} else {
				a.expect(t, http.StatusAccepted, "")
			}
			a.expectCounts(t, len(list), len(list)-list.bad(), list.bad())
			expectErrors(t, a.Errors, list.errors())
			if a.RestNotRead != cut || a.ErrorsOmitted != 0 || a.NotTaken != nil {
				t.Errorf("rest_not_read %v, errors_omitted %d, not_taken %v",
					a.RestNotRead, a.ErrorsOmitted, a.NotTaken)
			}
			list.expectNumbers(t, w.drain())
			w.expectLedger(bus.SourceHTTP, list.ledger(t))
		})
	}
}

// A worker gets the bytes of the object and nothing of what stands around it.
func TestEventsBytes(t *testing.T) {
	const object = `{ "a" : [1e400, "é\u00e9\n"],"b":{} }`
	for kind, body := range map[string]string{
		"application/json":     "\n[ " + object + "\t,\n" + object + "]",
		"application/x-ndjson": " " + object + " \r\n" + object,
	} {
		w := newWorld(t, Config{}, 1, smallRing)
		a := w.post(body, "Content-Type: "+kind)
		a.expect(t, http.StatusAccepted, "")
		got := w.drain()
		if len(got) != 2 || got[0].json != object || got[1].json != object {
			t.Errorf("%s: a worker gets %+v", kind, got)
		}
	}
}

// The exact text that clients see.
func TestEventsReply(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	for body, want := range map[string]string{
		"{}\n{}": `{"received":2,"accepted":2,"rejected":0,"errors":[]}` + "\n",
		"{}\n7": `{"received":2,"accepted":1,"rejected":1,"errors":[{"index":1,` +
			`"reason":"not_object","detail":"at byte 0: expected an object"}]}` + "\n",
	} {
		if a := w.post(body, ndjson); a.text != want {
			t.Errorf("the answer to %q is %s", body, a.text)
		}
	}
}

// An answer names the first 100 errors and counts the others.
func TestErrorsOmitted(t *testing.T) {
	for _, good := range []int{0, 1} {
		w := newWorld(t, Config{}, 1, smallRing)
		a := w.post(strings.Repeat("{}\n", good)+strings.Repeat("x\n", 137), ndjson)
		if a.status != [...]int{http.StatusBadRequest, http.StatusAccepted}[good] {
			t.Errorf("status %d with %d good events", a.status, good)
		}
		a.expectCounts(t, 137+good, good, 137)
		if len(a.Errors) != 100 || a.ErrorsOmitted != 37 {
			t.Errorf("%d errors, %d omitted", len(a.Errors), a.ErrorsOmitted)
		}
		for i, e := range a.Errors {
			if e.Index != i+good {
				t.Errorf("error %d is of item %d", i, e.Index)
			}
		}
		w.drain()
		w.expectLedger(bus.SourceHTTP, bus.SourceLedger{Received: uint64(137 + good),
			Accepted: uint64(good), Lost: [bus.Reasons]uint64{bus.Malformed: 137}})
	}
}

// What is no event of ours to count is refused before its body is read.
func TestNotSupported(t *testing.T) {
	for _, c := range []struct {
		headers []string
		code    string
	}{
		{[]string{"Content-Type: text/plain"}, "content_type"},
		{[]string{"Content-Type: application/xml; charset=utf-8"}, "content_type"},
		{[]string{"Content-Type: application/json; charset=utf-16"}, "content_type"},
		{[]string{"Content-Type: application/x-ndjson; charset=iso-8859-1"}, "content_type"},
		{[]string{"Content-Type: application/json; charset"}, "content_type"},
		{[]string{"Content-Type: /"}, "content_type"},
		{[]string{"Content-Type: application/cloudevents+avro"}, "content_type"},
		{[]string{ndjson, "Ce-Specversion: 1.0"}, "content_type"},
		{[]string{"Content-Encoding: br"}, "content_encoding"},
		{[]string{"Content-Encoding: deflate"}, "content_encoding"},
		{[]string{"Content-Encoding: gzip, gzip"}, "content_encoding"},
	} {
		w := newWorld(t, Config{}, 1, smallRing)
		r := request(errorReader{errors.New("the body was read")}, c.headers...)
		a := w.serve(w.in.Events, r)
		a.expect(t, http.StatusUnsupportedMediaType, c.code)
		// They say what would be taken.
		if a.header.Get("Accept") == "" && a.header.Get("Accept-Encoding") == "" {
			t.Errorf("%q: the answer has neither Accept nor Accept-Encoding", c.headers)
		}
		w.expectLedger(bus.SourceHTTP, bus.SourceLedger{})
	}
}

// A body that cannot be taken as a whole leaves nothing behind, and what was seen of it is counted.
func TestRefusedBodies(t *testing.T) {
	three := lines(numbered(3))
	broken := errors.New("the connection broke")
	for _, c := range []struct {
		name   string
		body   io.Reader
		header string
		status int
		code   string
		seen   int // events
		why    bus.Reason
	}{
		{"none", strings.NewReader(""), ndjson, 400, "no_body", 0, 0},
		{"too many events", strings.NewReader(lines(numbered(11))), ndjson, 413, "too_many_events", 11,
			bus.TooLarge},
		{"too many, some bad", strings.NewReader(strings.Repeat("x\n{}\n", 6)), ndjson, 413,
			"too_many_events", 12, bus.TooLarge},
		{"too large by its header", strings.NewReader(strings.Repeat(" ", 1001)), ndjson, 413,
			"body_too_large", 1, bus.TooLarge},
		// Of 126 events the last one is seen by its first byte.
		{"too large", endless("{\"n\":0}\n"), ndjson, 413, "body_too_large", 126, bus.TooLarge},
		{"too large for the server", failing(three, &http.MaxBytesError{Limit: 24}), ndjson, 413,
			"body_too_large", 3, bus.TooLarge},
		{"too late", failing(three, fmt.Errorf("read: %w", os.ErrDeadlineExceeded)), ndjson, 408,
			"body_timeout", 3, bus.Malformed},
		{"broken off", failing(three+"{", io.ErrUnexpectedEOF), ndjson, 400, "body_incomplete", 4,
			bus.Malformed},
		{"broken off at once", failing("", broken), ndjson, 400, "body_incomplete", 1, bus.Malformed},
		{"an array broken off", failing(`[{"n":0},{"n":1}`, broken), "Content-Type: " + plain,
			400, "body_incomplete", 3, bus.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{BodyBytes: 1000, MaxEvents: 10}, 2, smallRing)
			a := w.serve(w.in.Events, request(c.body, c.header))
			a.expect(t, c.status, c.code)
			want := bus.SourceLedger{Received: uint64(c.seen)}
			if c.seen > 0 {
				a.expectCounts(t, c.seen, 0, c.seen)
				want.Lost[c.why] = uint64(c.seen)
			}
			if got := w.drain(); len(got) > 0 {
				t.Errorf("a worker gets %+v", got)
			}
			w.expectLedger(bus.SourceHTTP, want)
		})
	}
}

// The limits themselves are still taken.
func TestLimits(t *testing.T) {
	w := newWorld(t, Config{BodyBytes: 1000, MaxEvents: 10}, 1, smallRing)
	a := w.post(lines(numbered(10)), ndjson)
	a.expectCounts(t, 10, 10, 0)
	a = w.post(`{"n":0}` + strings.Repeat(" ", 993))
	a.expectCounts(t, 1, 1, 0)
}

func TestNewRefuses(t *testing.T) {
	b, err := bus.New(bus.Config{Shards: 1, RingBytes: smallRing})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"no bus":           {},
		"body bytes":       {Bus: b, BodyBytes: -1},
		"body bytes, huge": {Bus: b, BodyBytes: 1<<30 + 1},
		"events":           {Bus: b, MaxEvents: -1},
		"evaluate":         {Bus: b, MaxEvaluate: -1},
		"timeout":          {Bus: b, EvaluateTimeout: -1},
		"timeout, long":    {Bus: b, EvaluateTimeout: maxEvaluateTimeout + 1},
		"path":             {Bus: b, Fields: event.Fields{ID: "a..b"}},
		"key path":         {Bus: b, Fields: event.Fields{Key: "."}},
		"depth":            {Bus: b, Limits: event.Limits{Depth: -1}},
		"event bytes":      {Bus: b, Limits: event.Limits{EventBytes: -1}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: expected an error", name)
		}
	}
}

// What comes after the bus was closed is a 503, counted, and named for sending it again.
func TestClosedBus(t *testing.T) {
	w := newWorld(t, Config{}, 2, smallRing)
	w.bus.Close()
	a := w.post(`[{"n":0},7,{"n":2},{"n":3}]`)
	a.expect(t, http.StatusServiceUnavailable, "closed")
	a.expectCounts(t, 4, 0, 1)
	if fmt.Sprint(a.NotTaken) != "[[0 0] [2 3]]" || a.header.Get("Retry-After") == "" {
		t.Errorf("not_taken %v, Retry-After %q", a.NotTaken, a.header.Get("Retry-After"))
	}
	w.expectLedger(bus.SourceHTTP, bus.SourceLedger{Received: 4,
		Lost: [bus.Reasons]uint64{bus.NotObject: 1, bus.Closed: 3}})
}

// The way through a real server: bodies without a length, and one that breaks off with its
// connection.
func TestServer(t *testing.T) {
	w := newWorld(t, Config{}, 1, 1<<20)
	srv := httptest.NewServer(http.HandlerFunc(w.in.Events))
	defer srv.Close()
	body, pipe := io.Pipe()
	go func() {
		for _, line := range numbered(1000) {
			io.WriteString(pipe, line+"\n")
		}
		pipe.Close()
	}()
	resp, err := http.Post(srv.URL, "application/x-ndjson", body)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	want := `{"received":1000,"accepted":1000,"rejected":0,"errors":[]}` + "\n"
	if resp.StatusCode != http.StatusAccepted || string(text) != want {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if got := w.drain(); len(got) != 1000 {
		t.Errorf("a worker gets %d events", len(got))
	}

	body, pipe = io.Pipe()
	go func() {
		io.WriteString(pipe, lines(numbered(3)))
		pipe.CloseWithError(errors.New("the client fails"))
	}()
	if _, err := http.Post(srv.URL, "application/x-ndjson", body); err == nil {
		t.Fatal("a request with a body that fails was answered")
	}
	until(t, "the broken body is counted", func() bool {
		l := w.bus.Ledger()
		return l.Total().Received > 1000
	})
	l := w.bus.Ledger().Sources[bus.SourceHTTP]
	// How much of the body came before its end is the network's affair.
	if n := l.Lost[bus.Malformed]; l.Accepted != 1000 || n < 1 || n > 3 || l.Received != 1000+n {
		t.Errorf("the ledger has %s", ledgerText(l))
	}
}

// Large bodies that are read at once share their memory: what comes when there is none left is refused, and
// there is room again when the others are done, however they end.
func TestBodiesFull(t *testing.T) {
	line := `{"n":"` + strings.Repeat("x", 1000) + "\"}\n"
	body := strings.Repeat(line, (200<<10)/len(line))
	w := newWorld(t, Config{BodyBytes: 1 << 20, BodiesBytes: 1 << 20}, 1, 4<<20)
	var ends []*io.PipeWriter
	var done sync.WaitGroup
	for range 3 { // 200 KiB in a little more
		in, feed := io.Pipe()
		ends = append(ends, feed)
		done.Go(func() { w.serve(w.in.Events, request(in, ndjson)) })
		if _, err := feed.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	held := w.in.bodies.Load()
	if held < 3*200<<10 || held > 1<<20 {
		t.Fatalf("%d bytes are held by 3 bodies of %d", held, len(body))
	}
	a := w.post(strings.Repeat(body, 4), ndjson)
	a.expect(t, http.StatusTooManyRequests, "bodies_full")
	refused := uint64(*a.Received)
	if a.header.Get("Retry-After") == "" || *a.Received == 0 || a.Accepted != 0 {
		t.Errorf("%d of %d events accepted, Retry-After %q", a.Accepted, *a.Received, a.header.Get("Retry-After"))
	}
	for range 10 { // a small one is never in want of room, whatever another left for it
		small := w.post(line, ndjson)
		small.expect(t, http.StatusAccepted, "")
	}
	if n := w.in.bodies.Load(); n != held {
		t.Errorf("%d bytes are held after a refusal, %d before", n, held)
	}
	for _, feed := range ends[1:] {
		_ = feed.Close()
	}
	_ = ends[0].CloseWithError(errors.New("the client has gone"))
	done.Wait()
	if n := w.in.bodies.Load(); n != 0 {
		t.Errorf("%d bytes are held by nothing", n)
	}
	w.discard()
	// Memory that a body left to the next request counts from that one's beginning, or is not used.
	for _, most := range []int{1 << 20, 100 << 10} {
		w.in.config.BodiesBytes = most
		b := w.in.batch(0)
		b.body = make([]byte, 0, 300<<10)
		want := int64(300 << 10)
		if want > int64(most) {
			want = 0
		}
		if err := b.read(request(strings.NewReader(line), ndjson), false); err != nil {
			t.Error(err)
		}
		if n := w.in.bodies.Load(); n != want {
			t.Errorf("%d bytes are held by a small body in the memory of a large one, expected %d", n, want)
		}
		b.release()
	}
	w.in.config.BodiesBytes = 1 << 20
	a = w.post(strings.Repeat(body, 4), ndjson)
	a.expect(t, http.StatusAccepted, "")
	l := w.bus.Ledger().Sources[bus.SourceHTTP]
	if l.Lost[bus.RingFull] != refused {
		t.Errorf("%d events dropped, expected the %d of the refused body", l.Lost[bus.RingFull], refused)
	}
}
