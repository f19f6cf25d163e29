//go:build !linux

package udpclient

func segmentMessage(int) []byte { return nil }

func cannotSegment(error) bool { return true }
