package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	webhookBatchBytes = 1 << 20
	maxAnswerBytes    = 64 << 10 // of an answer's headers, and of its body, that are read
	maxBackoff        = 30 * time.Second
	maxRetryAfter     = time.Minute // a Retry-After above this is taken as this
)

// webhook is the output to an HTTP endpoint.
type webhook struct {
	q      *queue
	c      SinkConfig
	client *http.Client

	dead *file // nil: what is given up is dropped
	torn bool  // of the dead-letter file
}

func newWebhook(q *queue, c *SinkConfig) *webhook {
	d := &net.Dialer{Timeout: c.Timeout}
	if !c.AllowPrivate {
		d.Control = refusePrivate
	}
	return &webhook{q: q, c: *c, client: &http.Client{
		Timeout: c.Timeout,
		Transport: &http.Transport{
			// No proxy: it would connect to addresses that were not checked.
			Proxy:                  nil,
			DialContext:            d.DialContext,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    1, // batches go one after the other
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxAnswerBytes,
		},
		// A redirect could lead to a place that nobody configured, with our headers.
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

func (o *webhook) deliver(ctx context.Context, lines []byte, n int) outcome {
	err := ctx.Err()
	if err == nil {
		err = o.send(ctx, lines)
	}
	if err == nil {
		return outcome{delivered: n}
	}
	if o.dead != nil {
		whole, deadErr := writeLines(o.dead, lines, &o.torn)
		if deadErr == nil {
			return outcome{deadLettered: n, err: err}
		}
		return outcome{deadLettered: whole, dropped: n - whole, err: errors.Join(err, deadErr)}
	}
	if ctx.Err() != nil {
		return outcome{left: n, err: err}
	}
	return outcome{dropped: n, err: err}
}

// send posts a batch until it is accepted or given up.
func (o *webhook) send(ctx context.Context, lines []byte) error {
	// The transport may still read a body after the answer came, so the next batch needs another.
	body := bytes.Clone(lines)
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval, wait.Multiplier = o.c.Backoff, maxBackoff, 2
	_, err := backoff.Retry(ctx,
		func() (struct{}, error) {
			err := o.post(ctx, body)
			if err != nil {
				o.q.failed.Add(1)
			}
			return struct{}{}, err
		},
		backoff.WithBackOff(wait),
		backoff.WithMaxTries(uint(o.c.MaxAttempts)),
		backoff.WithMaxElapsedTime(o.c.MaxElapsed),
		backoff.WithNotify(func(err error, _ time.Duration) {
			o.q.retries.Add(1)
			o.q.fail(err)
		}))
	return err
}

// post is one attempt. Its error says whether, and after what time, another one makes sense.
func (o *webhook) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.c.URL, bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("User-Agent", "wasmeval")
	for name, value := range o.c.Headers {
		req.Header.Set(name, value)
	}
	res, err := o.client.Do(req)
	if err != nil {
		err = fmt.Errorf("cannot post a batch: %w", withoutURL(err))
		if errors.Is(err, ErrPrivateAddress) {
			return backoff.Permanent(err)
		}
		return err
	}
	defer res.Body.Close()
	// The connection can be used again only when the body was read. What is in it does not matter,
	// nor does an error after the status came.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswerBytes))
	return judge(res)
}

// judge turns an answer into nil, an error to retry (perhaps after a time that the webhook asks
// for), or a permanent one.
func judge(res *http.Response) error {
	code := res.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	err := fmt.Errorf("%w: answer %d", ErrAnswer, code)
	if code >= 400 && code < 500 && code != 408 && code != 429 {
		return backoff.Permanent(err)
	}
	if after := retryAfter(res.Header.Get("Retry-After"), time.Now()); after > 0 {
		return fmt.Errorf("%w, %w", err, &backoff.RetryAfterError{Duration: after})
	}
	return err
}

// retryAfter reads a Retry-After header, which has seconds or a date. 0 means that it says nothing.
func retryAfter(header string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(header, 10, 31); err == nil {
		return min(time.Duration(s)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(header); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// withoutURL takes the URL out of an error of the client, since it may hold a secret.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func (o *webhook) close() error {
	o.client.CloseIdleConnections()
	if o.dead != nil {
		return o.dead.Close()
	}
	return nil
}
