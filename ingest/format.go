package ingest

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"wasmeval/internal/event"
)

// format is how a request carries its events.
type format uint8

const (
	formatJSON        format = iota // one object, or an array of them
	formatLines                     // one object a line
	formatCloud                     // a CloudEvent in structured mode
	formatCloudBatch                // an array of them
	formatCloudBinary               // a CloudEvent with its attributes in headers
	formatNotSupported
)

var shapes = [...]event.Shape{
	formatJSON: event.Value, formatLines: event.Lines, formatCloud: event.Object,
	formatCloudBatch: event.Array, formatCloudBinary: event.Object,
}

var formats = map[string]format{
	"":                                   formatJSON,
	"application/json":                   formatJSON,
	"application/x-ndjson":               formatLines,
	"application/ndjson":                 formatLines,
	"application/jsonl":                  formatLines,
	"application/cloudevents+json":       formatCloud,
	"application/cloudevents-batch+json": formatCloudBatch,
}

const acceptedTypes = "application/json, application/x-ndjson, application/ndjson, " +
	"application/jsonl, application/cloudevents+json, application/cloudevents-batch+json"

// formatOf reads a request's headers.
func formatOf(r *http.Request) format {
	text := r.Header.Get("Content-Type")
	f, ok := formats[text]
	if !ok {
		kind, params, err := mime.ParseMediaType(text)
		if err != nil {
			return formatNotSupported
		}
		if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
			return formatNotSupported
		}
		if f, ok = formats[kind]; !ok {
			return formatNotSupported
		}
	}
	if r.Header.Get("Ce-Specversion") == "" {
		return f
	}
	switch f {
	case formatJSON:
		return formatCloudBinary
	case formatLines:
		return formatNotSupported // one set of attributes cannot be that of many events
	}
	return f
}

// cloudHeaders fills env from the attributes in a request's headers, and says what is wrong with
// them, or "". A key that env has already, from the data, stays.
func cloudHeaders(h http.Header, env *event.Envelope) (wrong string) {
	for _, a := range []struct {
		name string
		text *[]byte
	}{{"Ce-Id", &env.ID}, {"Ce-Source", &env.Source}, {"Ce-Type", &env.Type}} {
		*a.text = nil
		if wrong := cloudHeader(h, a.name, a.text); wrong != "" {
			return wrong
		}
	}
	if len(env.Key) == 0 {
		if wrong := cloudHeader(h, "Ce-Partitionkey", &env.Key); wrong != "" {
			return wrong
		}
	}
	env.Time = 0
	if text := h.Get("Ce-Time"); text != "" {
		var ok bool
		if env.Time, ok = event.ParseTime([]byte(text)); !ok {
			return "expected RFC 3339 in the header ce-time"
		}
	}
	return event.CheckCloud(env, []byte(h.Get("Ce-Specversion")))
}

// cloudHeader reads one attribute, whose text is percent-encoded UTF-8.
func cloudHeader(h http.Header, name string, text *[]byte) (wrong string) {
	value := h.Get(name)
	if strings.Contains(value, "%") {
		var err error
		if value, err = url.PathUnescape(value); err != nil {
			return "expected percent-encoded text in the header " + strings.ToLower(name)
		}
	}
	if !utf8.ValidString(value) {
		return "expected UTF-8 in the header " + strings.ToLower(name)
	}
	*text = []byte(value)
	return ""
}
