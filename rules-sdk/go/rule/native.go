//go:build !wasip1

package rule

import "unsafe"

// host stands natively for the server. Try sets it; without it every call is refused.
var host *fakeHost

func bytesAt(p unsafe.Pointer, size int32) []byte { return unsafe.Slice((*byte)(p), size) }

func textAt(p unsafe.Pointer, size int32) string { return string(bytesAt(p, size)) }

func emit(row int32, ptr unsafe.Pointer, size int32) int32 {
	if host == nil {
		return 1
	}
	return host.emit(int(row), bytesAt(ptr, size))
}

func log(level int32, ptr unsafe.Pointer, size int32) {
	if host != nil && host.log != nil {
		host.log(Level(level), textAt(ptr, size))
	}
}

func stateAdd(state, row int32, key unsafe.Pointer, keySize int32, amount float64) float64 {
	return host.add(state, row, textAt(key, keySize), amount)
}

func stateDistinct(state, row int32, key unsafe.Pointer, keySize int32, value unsafe.Pointer,
	size int32) int32 {
	return host.distinct(state, row, textAt(key, keySize), textAt(value, size))
}

func stateSeen(state, row int32, key unsafe.Pointer, keySize int32) int64 {
	return host.seen(state, row, textAt(key, keySize))
}

func stateSet(state, row int32, key unsafe.Pointer, keySize int32, value unsafe.Pointer,
	size int32) int32 {
	return host.set(state, row, textAt(key, keySize), textAt(value, size))
}

func stateGet(state, row int32, key unsafe.Pointer, keySize int32, place unsafe.Pointer,
	size int32) int32 {
	v, code := host.get(state, row, textAt(key, keySize))
	if code == 0 {
		copy(bytesAt(place, size), v.bytes)
		code = int32(len(v.bytes))
	}
	return code
}

func stateTime(state, row int32, key unsafe.Pointer, keySize int32) int64 {
	v, code := host.get(state, row, textAt(key, keySize))
	if code == 0 {
		return v.at
	}
	return int64(code)
}

func stateDelete(state, row int32, key unsafe.Pointer, keySize int32) int32 {
	return host.forget(state, row, textAt(key, keySize))
}
