package runtime

import (
	"encoding/json"
	"strconv"
	"time"

	"wasmeval/internal/event"
)

// verdict is what one rule said of one event, before it is encoded.
type verdict struct {
	rule     *activeRule
	gen      Generation
	event    *event.View
	code     int32
	payload  []byte // JSON, or empty
	fault    *VerdictError
	fuel     uint64
	queuedNS int64 // from the event's arrival until its batch was taken
	tookNS   int64
	decision uint64 // position of the decision in this worker's life
}

// append appends the verdict's JSON: one object without a newline. boot and worker make the
// decision's id unique among all runs and workers.
func (v *verdict) append(dst []byte, boot string, worker int, now int64) []byte {
	dst = append(dst, `{"decision_id":"`...)
	dst = append(dst, boot...)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, int64(worker), 36)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, v.decision, 36)
	dst = append(dst, `","time":"`...)
	dst = time.Unix(0, now).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	dst = append(dst, `","rule":"`...)
	dst = append(dst, v.rule.name...)
	dst = append(dst, `","version":`...)
	dst = strconv.AppendUint(dst, uint64(v.rule.version), 10)
	dst = append(dst, `,"generation":`...)
	dst = strconv.AppendUint(dst, uint64(v.gen), 10)
	dst = append(dst, `,"event":{"id":`...)
	dst = appendString(dst, v.event.ID)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, v.event.Type)
	dst = append(dst, `,"key":`...)
	dst = appendString(dst, v.event.Key)
	dst = append(dst, `},"code":`...)
	dst = strconv.AppendInt(dst, int64(v.code), 10)
	if len(v.payload) > 0 {
		dst = append(dst, `,"payload":`...)
		dst = append(dst, v.payload...)
	}
	if v.fault != nil {
		dst = append(dst, `,"error":{"kind":"`...)
		dst = append(dst, v.fault.Kind...)
		dst = append(dst, `","message":`...)
		dst = appendQuoted(dst, v.fault.Message)
		for i, call := range v.fault.Trace {
			dst = append(dst, [...]string{`,"trace":[`, `,`}[min(i, 1)]...)
			dst = appendQuoted(dst, call)
		}
		if len(v.fault.Trace) > 0 {
			dst = append(dst, ']')
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `,"fuel":`...)
	dst = strconv.AppendUint(dst, v.fuel, 10)
	dst = append(dst, `,"queued_us":`...)
	dst = appendMicros(dst, v.queuedNS)
	dst = append(dst, `,"took_us":`...)
	dst = appendMicros(dst, v.tookNS)
	return append(dst, '}')
}

// appendMicros appends nanoseconds as microseconds, with their three decimals.
func appendMicros(dst []byte, ns int64) []byte {
	ns = max(ns, 0)
	dst = strconv.AppendInt(dst, ns/1000, 10)
	if f := ns % 1000; f != 0 {
		dst = append(dst, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
	}
	return dst
}

// appendQuoted appends a text that may hold anything, as messages of a guest's making do.
func appendQuoted(dst []byte, s string) []byte {
	b, _ := json.Marshal(s) // a string cannot fail
	return append(dst, b...)
}
