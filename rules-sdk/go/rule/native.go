//go:build !wasip1

package rule

import "unsafe"

// Natively what the rule sends goes to these; Try sets them.
var (
	onEmit func(row int, json []byte) int32
	onLog  func(level Level, text string)
)

func emit(row int32, ptr unsafe.Pointer, size int32) int32 {
	if onEmit == nil {
		return 1
	}
	return onEmit(int(row), unsafe.Slice((*byte)(ptr), size))
}

func log(level int32, ptr unsafe.Pointer, size int32) {
	if onLog != nil {
		onLog(Level(level), string(unsafe.Slice((*byte)(ptr), size)))
	}
}
