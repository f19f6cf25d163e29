package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	tokenFile     = "admin.token" // in the data folder

	maxAnswerBytes = 64 << 20
	callTimeout    = 2 * time.Minute // an upload of a large module compiles it
)

// client speaks to a server's HTTP API. Any goroutine may use it.
type client struct {
	base   string // URL without a slash at the end
	token  string // empty: none is sent
	noHope error  // why there is no token, for the message after a 401
	http   *http.Client
}

// addClientFlags adds the flags by which a verb finds its server, and returns the function that
// makes the client once the flags are parsed.
func addClientFlags(cmd *cobra.Command) func() (*client, error) {
	f := cmd.PersistentFlags()
	server := f.String("server", envOr(serverEnv, defaultServer), "URL of the server")
	token := f.String("token", "", "token ("+tokenEnv+", or "+tokenFile+" in the data folder)")
	dir := f.String("data-dir", envOr("WASMEVAL_DATA_DIR", "./data"), "data folder of the server")
	return func() (*client, error) {
		return newClient(*server, firstOf(*token, os.Getenv(tokenEnv)), *dir)
	}
}

// newClient makes a client. With no token it takes the one in the data folder, but only for a
// server on this machine: it is nobody else's business.
func newClient(server, token, dataDir string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server %q: expected a URL such as %s", server, defaultServer)
	}
	c := &client{base: strings.TrimSuffix(server, "/"), token: token}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     30 * time.Second,
		},
		// A redirect would carry the token, and the events, to where nobody sent them.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if token != "" {
		return c, nil
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	if local, err := isLoopback(host); err != nil || !local {
		c.noHope = errors.New("give --token; that of the data folder is for a local server only")
		return c, nil
	}
	text, err := os.ReadFile(filepath.Join(dataDir, tokenFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.noHope = fmt.Errorf("there is no %s in data folder %q; give --data-dir or --token",
			tokenFile, dataDir)
	case err != nil:
		c.noHope = err
	}
	c.token = strings.TrimSpace(string(text))
	return c, nil
}

// apiError is an answer other than 2xx.
type apiError struct {
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Title      string `json:"title"`
	Detail     string `json:"detail"`
	retryAfter time.Duration
	body       []byte // as it came
	hint       error  // what the user could do
}

// Error says what the server said, which may repeat texts of a rule's or a stranger's making.
func (e *apiError) Error() string {
	text := oneLine(firstOf(e.Detail, e.Title, http.StatusText(e.Status)))
	text = fmt.Sprintf("%s (%d %s)", text, e.Status, firstOf(e.Code, http.StatusText(e.Status)))
	if e.hint != nil {
		text += ": " + e.hint.Error()
	}
	return text
}

// call is a request with a body in memory.
type call struct {
	method, path string
	query        url.Values
	contentType  string
	encoding     string // Content-Encoding; empty: none
	body         []byte
}

// do makes a request and returns the answer's body. An answer other than 2xx is an *apiError.
func (c *client) do(ctx context.Context, r call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of %q: %w", c.base, err)
	}
	return body, nil
}

// open makes a request and returns the answer, which the caller closes. An answer other than 2xx
// is an *apiError.
func (c *client) open(ctx context.Context, r call) (*http.Response, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.encoding != "" {
		req.Header.Set("Content-Encoding", r.encoding)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var why *url.Error
		if errors.As(err, &why) {
			err = why.Err // without the URL, which stands in our own text
		}
		return nil, fmt.Errorf("cannot reach the server at %q: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.failure(resp)
}

func (c *client) failure(resp *http.Response) error {
	e := &apiError{}
	// What cannot be read has no detail; the status tells enough.
	e.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if json.Unmarshal(e.body, e) != nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/") {
		e.Detail = strings.TrimSpace(string(e.body[:min(len(e.body), 500)]))
	}
	e.Status = resp.StatusCode
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		e.retryAfter = time.Duration(n) * time.Second
	}
	if e.Status == http.StatusUnauthorized {
		e.hint = c.noHope
	}
	return e
}

// get makes a GET and decodes the JSON answer. It returns the body as well.
func (c *client) get(ctx context.Context, path string, query url.Values, into any) ([]byte, error) {
	return c.json(ctx, call{method: http.MethodGet, path: path, query: query}, into)
}

// json makes a request and decodes the JSON answer. It returns the body as well.
func (c *client) json(ctx context.Context, r call, into any) ([]byte, error) {
	body, err := c.do(ctx, r)
	if err != nil || into == nil || len(body) == 0 {
		return body, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, fmt.Errorf("cannot read the answer of %q: %w", c.base, err)
	}
	return body, nil
}

// printJSON prints a JSON text indented, or as it is where it is none.
func printJSON(w io.Writer, body []byte) error {
	var b bytes.Buffer
	if json.Indent(&b, body, "", "  ") != nil {
		b.Reset()
		b.Write(body)
	}
	_, err := fmt.Fprintln(w, strings.TrimSpace(b.String()))
	return err
}

func envOr(name, standard string) string { return firstOf(os.Getenv(name), standard) }

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
