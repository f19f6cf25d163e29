package bus

import (
	"fmt"
	goruntime "runtime"
	"testing"
)

// BenchmarkPublish is one producer goroutine for each core against one consumer, for each record of
// 200 bytes; the baselines are channels, whose producers must copy too.
func BenchmarkPublish(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("mpsc/batch%d", batch), func(b *testing.B) {
			r, err := NewRing(8 << 20)
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				r.Consume(handlerFunc(func([][]byte) {}), 256)
				close(done)
			}()
			body := make([]byte, 200)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				recs := make([]Record, 0, batch)
				flush := func() {
					for todo := recs; len(todo) > 0; {
						n, err := r.Publish(todo)
						if todo = todo[n:]; err != nil {
							goruntime.Gosched()
						}
					}
					recs = recs[:0]
				}
				for pb.Next() {
					if recs = append(recs, Record{Body: body}); len(recs) == batch {
						flush()
					}
				}
				flush()
			})
			r.Close()
			<-done
		})
	}
	for _, buffer := range []int{0, 16 << 10} {
		b.Run(fmt.Sprintf("chan/buffer%d", buffer), func(b *testing.B) {
			c := make(chan []byte, buffer)
			done := make(chan struct{})
			go func() {
				for range c {
				}
				close(done)
			}()
			body := make([]byte, 200)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c <- append([]byte(nil), body...)
				}
			})
			close(c)
			<-done
		})
	}
}
