package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// checkBody refuses a body by its headers.
func checkBody(r *http.Request, b *Body) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return refuse(http.StatusUnsupportedMediaType, "content_encoding",
			"content encoding %.100q: expected none here", e)
	}
	if t := r.Header.Get("Content-Type"); t != "" && !slices.Contains(b.Types, mediaType(t)) {
		return refuse(http.StatusUnsupportedMediaType, "content_type",
			"content type %.100q: expected %s", t, strings.Join(b.Types, " or "))
	}
	if r.ContentLength > int64(b.Bytes) {
		return &http.MaxBytesError{Limit: int64(b.Bytes)} // without reading what will not fit
	}
	return nil
}

// mediaType is a content type without its parameters, or "" if it is none.
func mediaType(text string) string {
	t, _, err := mime.ParseMediaType(text)
	if err != nil {
		return ""
	}
	return t
}

// readBody reads what checked has limited. The caller owns the bytes.
func readBody(r *http.Request) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
	_, err := b.ReadFrom(r.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, bad("body_incomplete", "the body ended before its length")
	}
	return b.Bytes(), err
}

// readJSON reads a body with exactly one JSON value without unknown keys.
func readJSON(r *http.Request, v any) error {
	text, err := readBody(r)
	if err != nil {
		return err
	}
	return strict(text, v)
}

// strict decodes exactly one JSON value without unknown keys.
func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return bad("bad_json", "expected JSON, there is nothing")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("bad_json", "cannot read the JSON: it ends too early")
	case errors.As(err, &kind):
		what := "it"
		if kind.Field != "" {
			what = strconv.Quote(kind.Field)
		}
		return bad("bad_json", "cannot read the JSON: %s cannot be %.100s", what, kind.Value)
	case err != nil:
		return bad("bad_json", "cannot read the JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("bad_json", "cannot read the JSON: there is something after it, at byte %d",
			d.InputOffset())
	}
	return nil
}
