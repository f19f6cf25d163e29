package event

// NewCloudScanner makes a scanner for CloudEvents 1.0 in their JSON format: the envelope is read
// from the attributes, and the object is the one in "data". A key is read from f.Key in the data,
// and if there is none there, from the attribute partitionkey; the other paths are not used.
func NewCloudScanner(f Fields, l Limits) (*Scanner, error) {
	fields := []field{
		{"id", split("id"), captureID},
		{"type", split("type"), captureType},
		{"source", split("source"), captureSource},
		{"time", split("time"), captureTime},
		{"partitionkey", split("partitionkey"), captureKey},
		{"specversion", split("specversion"), captureVersion},
		{"data", split("data"), captureData},
		{"data_base64", split("data_base64"), captureBase64},
	}
	if f.Key != "" {
		fields = append(fields, field{"key", split("data." + f.Key), captureDataKey})
	}
	return newScanner(fields, l, true)
}

// finishCloud is finish for a CloudEvent that begins at offset start.
func (s *Scanner) finishCloud(b []byte, start int, env *Envelope) (object []byte) {
	s.fill(b, env)
	if key := s.bytes(b, s.spans[captureDataKey]); len(key) > 0 {
		env.Key = key
	}
	version := s.bytes(b, s.spans[captureVersion])
	if msg := CheckCloud(env, version); msg != "" {
		s.note(BadEnvelope, start, msg)
		return nil
	}
	data := s.bytes(b, s.spans[captureData])
	if s.spans[captureBase64].is {
		s.note(NotObject, int(s.spans[captureBase64].at), "expected the event in data, not data_base64")
		return nil
	}
	if len(data) == 0 || data[0] != '{' {
		s.note(NotObject, max(start, int(s.spans[captureData].at)), "expected an object as the data")
		return nil
	}
	return data
}

// CheckCloud says what is missing from the attributes of a CloudEvent, or "".
func CheckCloud(env *Envelope, version []byte) (wrong string) {
	switch {
	case string(version) != "1.0":
		return "expected the CloudEvents specversion 1.0"
	case len(env.ID) == 0:
		return "expected the CloudEvents attribute id"
	case len(env.Source) == 0:
		return "expected the CloudEvents attribute source"
	case len(env.Type) == 0:
		return "expected the CloudEvents attribute type"
	}
	return ""
}

// ParseTime reads an RFC 3339 time, as an attribute of a CloudEvent has it, as nanoseconds since
// 1970-01-01 UTC.
func ParseTime(text []byte) (ns int64, ok bool) { return parseTime(text) }
