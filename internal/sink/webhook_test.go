package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A batch goes out when it has batch_max verdicts, or when its first verdict waited for batch_wait,
// or at Close, whatever comes first.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		e := &endpoint{}
		r := openHook(t, hook(func(s *SinkConfig) { s.BatchWait = 200 * time.Millisecond }), e)
		const large = 30 // dropped ones do not make a batch full
		for range large {
			r.Route("pay", 1, false, make([]byte, defaultQueueBytes/8))
		}
		send(r, 0, 25)
		synctest.Wait() // without time: two batches are full
		if got := e.sizes(); !slices.Equal(got, []int{10, 10}) {
			t.Errorf("batches of %v at once, expected two of 10", got)
		}
		time.Sleep(150 * time.Millisecond)
		send(r, 25, 3)
		time.Sleep(time.Second)
		send(r, 28, 1)
		synctest.Wait() // the last one waits, then Close comes
		mustClose(t, r)
		var lines []string
		var at []time.Duration
		for _, p := range e.got() {
			lines = append(lines, p.lines...)
			at = append(at, p.at.Sub(begun))
		}
		sameLines(t, "the webhook", lines, numbered(0, 29))
		if got := e.sizes(); !slices.Equal(got, []int{10, 10, 8, 1}) {
			t.Errorf("batches of %v", got)
		}
		if want := []time.Duration{0, 0, 200e6, 1150e6}; !slices.Equal(at, want) {
			t.Errorf("batches at %v, expected %v", at, want)
		}
		account(t, r.Stats()[0], ledger{routed: 29 + large, delivered: 29, dropped: large})
	})
}

// A batch that waits for more does not let the queue fill up: what comes at its pace is not lost.
func TestBatchOfBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		r := openHook(t, hook(func(s *SinkConfig) {
			s.QueueBytes, s.BatchMax, s.BatchWait = minQueueBytes, maxBatchMax, time.Hour
		}), e)
		long := fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("x", 1000))
		for range 500 {
			r.Route("pay", 1, false, long)
			synctest.Wait()
		}
		mustClose(t, r)
		if n := len(e.got()); n < 500*1000/minQueueBytes || n > 50 {
			t.Errorf("%d batches", n)
		}
		account(t, r.Stats()[0], ledger{routed: 500, delivered: 500})
	})
	// The same with what came while the batch before was on its way.
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		e := &endpoint{answer: func(int, post) (*http.Response, error) {
			<-hold
			return status(200)
		}}
		r := openHook(t, hook(func(s *SinkConfig) {
			s.QueueBytes, s.BatchMax, s.BatchWait = minQueueBytes, maxBatchMax, time.Second
			s.Timeout = time.Hour
		}), e)
		send(r, 0, 1)
		time.Sleep(2 * time.Second)
		for range 40 {
			r.Route("pay", 1, false, fmt.Appendf(nil, "%q", strings.Repeat("x", 1000)))
		}
		close(hold)
		synctest.Wait() // without time
		if got := e.sizes(); !slices.Equal(got, []int{1, 40}) {
			t.Errorf("batches of %v, expected 1 and 40", got)
		}
		mustClose(t, r)
	})
}

// A batch has at most 1 MiB, or one verdict.
func TestBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make(chan struct{})
		e := &endpoint{answer: func(int, post) (*http.Response, error) {
			<-all
			return status(200)
		}}
		r := openHook(t, hook(func(s *SinkConfig) {
			s.QueueBytes, s.BatchMax, s.Timeout = 64<<20, 1000, time.Hour
		}), e)
		send(r, 0, 1)
		time.Sleep(time.Second) // the first request is waiting for its answer
		want := []int{len(line(0))}
		for range 4 {
			for _, size := range []int{300_000, 300_000, 300_000, 1_500_000} {
				r.Route("pay", 1, false, fmt.Appendf(nil, "%q", strings.Repeat("x", size-2)))
				want = append(want, size)
			}
		}
		close(all)
		mustClose(t, r)
		var got []int
		for _, p := range e.got() {
			bytes := 0
			for _, l := range p.lines {
				got = append(got, len(l))
				bytes += len(l) + 1
			}
			if bytes > webhookBatchBytes && len(p.lines) > 1 {
				t.Errorf("a batch has %d verdicts with %d bytes", len(p.lines), bytes)
			}
			if int64(bytes) != p.req.ContentLength {
				t.Errorf("content length %d of %d bytes", p.req.ContentLength, bytes)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("verdicts of %v bytes came, expected %v", got, want)
		}
		if got := e.sizes(); !slices.Equal(got, []int{1, 3, 1, 3, 1, 3, 1, 3, 1}) {
			t.Errorf("batches of %v", got)
		}
	})
}

func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		r := openHook(t, hook(func(s *SinkConfig) {
			s.URL = "http://user:secret@hook.test/in?k=v"
			s.Headers = map[string]string{"X-Token": "a b", "user-agent": "mine"}
		}), e)
		r.Route("pay", 1, false, []byte("{\"a\":\r\n1}")) // which stays one line
		mustClose(t, r)
		p := e.got()[0]
		sameLines(t, "the body", p.lines, []string{`{"a":  1}`})
		for name, want := range map[string]string{"Content-Type": "application/x-ndjson",
			"X-Token": "a b", "User-Agent": "mine", "Authorization": "Basic dXNlcjpzZWNyZXQ="} {
			if got := p.req.Header.Get(name); got != want {
				t.Errorf("header %s is %q, expected %q", name, got, want)
			}
		}
		if p.req.Method != http.MethodPost || p.req.URL.RequestURI() != "/in?k=v" {
			t.Errorf("request %s %s", p.req.Method, p.req.URL.RequestURI())
		}
	})
}

// lateReader answers before it has read the body, as a transport may.
type lateReader struct{ bodies []io.Reader }

func (l *lateReader) RoundTrip(req *http.Request) (*http.Response, error) {
	l.bodies = append(l.bodies, req.Body)
	return status(200)
}

// The bytes of a batch stay what they are while the next one is made.
func TestBodyIsKept(t *testing.T) {
	late := &lateReader{}
	r := open(t, hook(nil), io.Discard)
	r.queues[0].out.(*webhook).client.Transport = late
	send(r, 0, 100)
	mustClose(t, r)
	var lines []string
	for _, b := range late.bodies {
		text, err := io.ReadAll(b)
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, split(text)...)
	}
	sameLines(t, "the bodies", lines, numbered(0, 100))
}

// What the webhook says decides how often a batch is tried.
func TestAttempts(t *testing.T) {
	refused := func(int, post) (*http.Response, error) { return nil, errors.New("no one there") }
	private := func(int, post) (*http.Response, error) {
		return nil, fmt.Errorf("dial: %w", ErrPrivateAddress)
	}
	for name, c := range map[string]struct {
		answer    func(int, post) (*http.Response, error)
		attempts  int
		delivered bool
		err       string
	}{
		"200":         {always(200), 1, true, ""},
		"204":         {always(204), 1, true, ""},
		"299":         {always(299), 1, true, ""},
		"300":         {always(300), 4, false, "300"},
		"301":         {always(301, "Location", "http://other.test/"), 4, false, "301"},
		"307":         {always(307, "Location", "/other"), 4, false, "307"},
		"308 nowhere": {always(308), 4, false, "308"},
		"304":         {always(304), 4, false, "304"},
		"400":         {always(400), 1, false, "400"},
		"401":         {always(401), 1, false, "401"},
		"404":         {always(404), 1, false, "404"},
		"408":         {always(408), 4, false, "408"},
		"413":         {always(413), 1, false, "413"},
		"422":         {always(422), 1, false, "422"},
		"429":         {always(429), 4, false, "429"},
		"499":         {always(499), 1, false, "499"},
		"500":         {always(500), 4, false, "500"},
		"503":         {always(503), 4, false, "503"},
		"no answer":   {refused, 4, false, "no one there"},
		"private":     {private, 1, false, "not public"},
		"third time": {func(n int, _ post) (*http.Response, error) {
			return status([]int{500, 429, 200}[n-1])
		}, 3, true, "429"},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &endpoint{answer: c.answer}
			r := openHook(t, hook(func(s *SinkConfig) { s.MaxAttempts = 4 }), e)
			send(r, 0, 7)
			mustClose(t, r)
			for _, p := range e.got() { // always the whole batch, and to nowhere else
				sameLines(t, name, p.lines, numbered(0, 7))
				if p.req.URL.Host != "hook.test" {
					t.Errorf("%s: a request went to %s", name, p.req.URL)
				}
			}
			s := r.Stats()[0]
			want, failed := ledger{routed: 7, dropped: 7}, c.attempts
			if c.delivered {
				want, failed = ledger{routed: 7, delivered: 7}, c.attempts-1
			}
			account(t, s, want)
			if n := len(e.got()); n != c.attempts || s.FailedAttempts != uint64(failed) ||
				s.Retries != uint64(n-1) || s.DroppedFailed != s.Dropped() {
				t.Errorf("%s: %d attempts, %+v, expected %d attempts", name, n, s, c.attempts)
			}
			if !strings.Contains(s.LastError, c.err) || (c.err == "") != (s.LastError == "") ||
				s.LastErrorTime.IsZero() != (c.err == "") {
				t.Errorf("%s: the error is %q, expected %q", name, s.LastError, c.err)
			}
		})
	}
}

// gaps are the times between the attempts of a batch that always fails.
func gaps(t *testing.T, more func(*SinkConfig), answer func(int, post) (*http.Response, error),
) (all []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: answer}
		r := openHook(t, hook(more), e)
		send(r, 0, 1)
		if err := closeWithin(t, r, 1000*time.Hour); err != nil {
			t.Error(err)
		}
		account(t, r.Stats()[0], ledger{routed: 1, dropped: 1})
		posts := e.got()
		for i := range posts[1:] {
			all = append(all, posts[i+1].at.Sub(posts[i].at))
		}
	})
	return all
}

// The wait doubles up to its limit, each time with half of it more or less, at random.
func TestBackoff(t *testing.T) {
	const s = time.Second
	middle := []time.Duration{2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s}
	seen := make(map[time.Duration]bool)
	for range 20 {
		got := gaps(t, func(c *SinkConfig) {
			c.Backoff, c.MaxAttempts, c.MaxElapsed = 2*s, len(middle)+1, time.Hour
		}, always(500))
		if len(got) != len(middle) {
			t.Fatalf("%d waits, expected %d", len(got), len(middle))
		}
		for i, m := range middle {
			if got[i] < m/2 || got[i] > m*3/2+1 {
				t.Errorf("wait %d is %v, expected %v to %v", i+1, got[i], m/2, m*3/2)
			}
		}
		seen[got[0]] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 first waits are only %d different ones", len(seen))
	}
}

// A batch is given up when the next attempt would be later than max_elapsed after the first.
func TestMaxElapsed(t *testing.T) {
	total, attempts := time.Duration(0), 1
	for _, gap := range gaps(t, func(c *SinkConfig) {
		c.Backoff, c.MaxAttempts, c.MaxElapsed = 100*time.Millisecond, 1000, 20*time.Second
	}, always(500)) {
		total += gap
		attempts++
	}
	if total > 20*time.Second || attempts < 5 || attempts > 12 {
		t.Errorf("%d attempts in %v", attempts, total)
	}
}

// Each attempt as a whole ends after timeout, also when the answer does not end.
func TestTimeout(t *testing.T) {
	endless := func(_ int, p post) (*http.Response, error) {
		read, write := io.Pipe()
		go func() {
			<-p.req.Context().Done()
			write.CloseWithError(p.req.Context().Err())
		}()
		return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{},
			Body: read}, nil
	}
	for name, answer := range map[string]func(int, post) (*http.Response, error){
		"no answer": hang, "no end": endless,
	} {
		for i, gap := range gaps(t, func(c *SinkConfig) { c.Timeout = 5 * time.Second }, answer) {
			if gap < 5*time.Second || gap > 5*time.Second+10*time.Millisecond {
				t.Errorf("%s: attempt %d took %v, expected 5 s", name, i+1, gap)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	soon := func(c *SinkConfig) { c.Backoff, c.MaxElapsed = time.Millisecond, time.Hour }
	date := func(d time.Duration) func(int, post) (*http.Response, error) {
		return func(int, post) (*http.Response, error) {
			return status(503, "Retry-After", time.Now().Add(d).UTC().Format(http.TimeFormat))
		}
	}
	for name, c := range map[string]struct {
		answer   func(int, post) (*http.Response, error)
		from, to time.Duration
	}{
		"429 with seconds":   {always(429, "Retry-After", "7"), 7 * time.Second, 7 * time.Second},
		"503 with seconds":   {always(503, "Retry-After", "7"), 7 * time.Second, 7 * time.Second},
		"a long time":        {always(429, "Retry-After", "86400"), maxRetryAfter, maxRetryAfter},
		"a date":             {date(9 * time.Second), 9 * time.Second, 9 * time.Second},
		"a date far away":    {date(24 * time.Hour), maxRetryAfter, maxRetryAfter},
		"a date in the past": {date(-time.Hour), 0, 10 * time.Millisecond},
		"nonsense":           {always(429, "Retry-After", "soon"), 0, 10 * time.Millisecond},
	} {
		got := gaps(t, soon, c.answer)
		if len(got) != 2 {
			t.Errorf("%s: %d waits, expected 2", name, len(got))
		}
		for _, gap := range got {
			if gap < c.from || gap > c.to {
				t.Errorf("%s: waited for %v, expected %v to %v", name, gap, c.from, c.to)
			}
		}
	}
	// One that comes too late is not waited for.
	if got := gaps(t, func(c *SinkConfig) { c.MaxElapsed = 5 * time.Second },
		always(429, "Retry-After", "6")); len(got) != 0 {
		t.Errorf("waited for %v, expected that the batch is given up", got)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, "60": maxRetryAfter, "61": maxRetryAfter, "-1": 0, "1.5": 0,
		"+1": 0, " 1": 0, "99999999999999999999": 0, "2147483647": maxRetryAfter,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:04 GMT": 0,
		"Mon, 02 Jan 9999 03:04:04 GMT": maxRetryAfter,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After %q: %v, expected %v", header, got, want)
		}
	}
}

// Over HTTP as it is: a redirect is not followed, and its target sees nothing.
func TestRedirect(t *testing.T) {
	var target atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		target.Add(1)
	}))
	defer elsewhere.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, code))
		r := open(t, hook(func(s *SinkConfig) { s.URL = srv.URL }), io.Discard)
		send(r, 0, 5)
		mustClose(t, r)
		srv.Close()
		s := r.Stats()[0]
		account(t, s, ledger{routed: 5, dropped: 5})
		if s.FailedAttempts != 3 || !strings.Contains(s.LastError, fmt.Sprint(code)) {
			t.Errorf("%d: %+v", code, s)
		}
	}
	if n := target.Load(); n != 0 {
		t.Errorf("%d requests came to the redirect's target", n)
	}
}

// The environment's proxy is not used: it would connect to what was not checked.
func TestNoProxy(t *testing.T) {
	o := newWebhook(&queue{}, &SinkConfig{})
	if o.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the client has a proxy")
	}
}

// The dead-letter file has exactly the verdicts that were given up, in their order, once each; also
// when it is rotated on the way.
func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "folder", "dead.ndjson")
		var accepted []string
		given := make(map[string]int) // batches that were refused for good, by their first line
		e := &endpoint{answer: func(n int, p post) (*http.Response, error) {
			switch i := given[p.lines[0]]; {
			case len(p.lines[0])%3 == 0: // some are refused at once
				return status(422)
			case len(p.lines[0])%3 == 1 || i > 0 && n%2 == 0: // some for good, but slowly
				return status(500)
			case i == 0: // others are taken the second time
				given[p.lines[0]]++
				return status(503)
			}
			accepted = append(accepted, p.lines...)
			return status(200)
		}}
		r := openHook(t, hook(func(s *SinkConfig) {
			s.DeadLetter, s.MaxSizeMB, s.QueueBytes, s.MaxAttempts = path, 1, 32<<20, 3
			s.MaxElapsed = time.Hour
		}), e)
		const n = 3000
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("x", 900+i%77))
			r.Route("pay", 1, false, []byte(all[i]))
		}
		mustClose(t, r)
		took := make(map[string]bool)
		for _, l := range accepted {
			if took[l] {
				t.Errorf("%.20q was accepted twice", l)
			}
			took[l] = true
		}
		lost := slices.DeleteFunc(all, func(l string) bool { return took[l] })
		files := backupsOf(t, path)
		sameLines(t, "the dead-letter file", linesOf(t, files...), lost)
		if len(accepted) == 0 || len(lost) < n/3 || len(files) < 2 {
			t.Errorf("%d accepted, %d not, in %d files", len(accepted), len(lost), len(files))
		}
		account(t, r.Stats()[0], ledger{routed: n, delivered: len(accepted), deadLettered: len(lost)})
	})
}

// What can be neither delivered nor dead-lettered is dropped.
func TestDeadLetterFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: always(400)}
		r := openHook(t, hook(func(s *SinkConfig) {
			s.DeadLetter = filepath.Join(t.TempDir(), "dead.ndjson")
		}), e)
		o := r.queues[0].out.(*webhook)
		o.dead.f.Close()
		send(r, 0, 5)
		mustClose(t, r)
		s := r.Stats()[0]
		account(t, s, ledger{routed: 5, dropped: 5})
		if s.DroppedFailed != 5 {
			t.Errorf("%+v", s)
		}
	})
}

// When Close aborts, what is left goes to the dead-letter file if there is one.
func TestAbort(t *testing.T) {
	for name, answer := range map[string]func(int, post) (*http.Response, error){
		"hangs": hang, "is waited for": always(429, "Retry-After", "60"),
	} {
		for _, letters := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "dead.ndjson")
				e := &endpoint{answer: answer}
				r := openHook(t, hook(func(s *SinkConfig) {
					s.MaxElapsed, s.Timeout = time.Hour, time.Hour
					if letters {
						s.DeadLetter = path
					}
				}), e)
				send(r, 0, 35)
				begun := time.Now()
				err := closeWithin(t, r, 30*time.Second)
				if d := time.Since(begun); d != 30*time.Second {
					t.Errorf("%s: Close took %v, expected its 30 s and no more", name, d)
				}
				if letters {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					sameLines(t, name, linesOf(t, path), numbered(0, 35))
					account(t, r.Stats()[0], ledger{routed: 35, deadLettered: 35})
				} else {
					wantLeft(t, err, 35)
					account(t, r.Stats()[0], ledger{routed: 35, left: 35})
				}
				if n := len(e.got()); n != 1 {
					t.Errorf("%s: %d requests, expected 1", name, n)
				}
				synctest.Wait()
				if err := closeWithin(t, r, 0); (err != nil) == letters { // says the same again
					t.Errorf("%s: the second Close: %v", name, err)
				}
			})
		}
	}
}

// A URL may hold a secret, so no error shows it.
func TestSecretURL(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close() // nobody is there now
	for _, url := range []string{"http://bob:s3cret@" + lis.Addr().String() + "/s3cret?k=s3cret",
		"http://" + lis.Addr().String() + "/s3cret"} {
		r := open(t, hook(func(s *SinkConfig) { s.URL = url }), io.Discard)
		send(r, 0, 5)
		mustClose(t, r)
		s := r.Stats()[0]
		account(t, s, ledger{routed: 5, dropped: 5})
		if s.LastError == "" || strings.Contains(s.LastError, "s3cret") || s.FailedAttempts != 3 {
			t.Errorf("%+v", s)
		}
	}
	for _, url := range []string{"ftp://s3cret/", "http://%s3cret", "s3cret", "http:///s3cret"} {
		c := hook(func(s *SinkConfig) { s.URL = url })
		if err := c.Check(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("url %q: %v", url, err)
		}
	}
}

// Batches use one connection, also when the answers have bodies.
func TestConnectionIsKept(t *testing.T) {
	var conns, requests atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			io.Copy(io.Discard, r.Body)
			w.Write(bytes.Repeat([]byte("x"), 10_000))
		}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	r := open(t, hook(func(s *SinkConfig) { s.URL = srv.URL }), io.Discard)
	send(r, 0, 200)
	mustClose(t, r)
	account(t, r.Stats()[0], ledger{routed: 200, delivered: 200})
	if conns.Load() != 1 || requests.Load() < 20 {
		t.Errorf("%d requests on %d connections", requests.Load(), conns.Load())
	}
}
