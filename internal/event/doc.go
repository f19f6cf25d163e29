// Package event knows what an event is: it checks the bytes of a JSON object in one pass, finds its
// envelope (id, type, source, time, key), and lays it out as a record of the ring.
//
//	s := event.NewScanner(event.Fields{Type: "type", ID: "id", Time: "ts", Key: "user.id"}, limits)
//	if err := s.Scan(body, &env); err != nil { ... } // an *event.Error with a reason
//	head, err := event.AppendHead(nil, &env)
//	producer.Submit(shard, []bus.Record{{Head: head, Body: body}})
//
//	var v event.View // at the worker
//	v.Decode(record)
//
// A Scanner is for one goroutine; everything else here may be used from any.
package event
