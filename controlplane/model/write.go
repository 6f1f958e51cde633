package model

import (
	"time"

	"google.golang.org/protobuf/proto"
)

// AnyRevision as a Write's If writes whatever is there.
const AnyRevision int64 = -1

// Write is one change of the store.
type Write struct {
	Key Key
	// Value is the new record; nil deletes it.
	Value proto.Message
	// If is the record's modification revision that the write expects: 0 that
	// there is none, AnyRevision to not look.
	If int64
}

// Batch is writes that happen together or not at all.
type Batch []Write

// Plan is what a decider answers: batches that are independent of each other,
// and when to decide again though nothing changes (zero: when something does).
type Plan struct {
	Batches []Batch
	WakeAt  time.Time
}

// Wake moves WakeAt to t if that is sooner. A zero t changes nothing.
func (p *Plan) Wake(t time.Time) {
	if !t.IsZero() && (p.WakeAt.IsZero() || t.Before(p.WakeAt)) {
		p.WakeAt = t
	}
}
