package placement

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// batchSize bounds the tasks that are bound in one transaction.
const batchSize = 90

// Writes is the plan that stores a result: the bound tasks, and the others'
// reasons where they changed.
func Writes(s *model.Snapshot, r Result, _ time.Time) model.Plan {
	var writes model.Batch
	for _, b := range r.Bindings {
		rec := proto.CloneOf(b.Task.Record)
		rec.Instance, rec.PlacementFailure = b.Instance, ""
		if i, ok := s.Instance(rec.GetCluster(), b.Instance); ok {
			rec.Task.ContainerInstanceArn = i.Record.GetInstance().GetContainerInstanceArn()
		}
		writes = append(writes, model.Write{Key: b.Task.Key(), Value: rec, If: b.Task.RecordRevision})
	}
	for _, f := range r.Failures {
		// Figures alone change with every task that others start.
		was, _, _ := strings.Cut(f.Task.Record.GetPlacementFailure(), ";")
		if is, _, _ := strings.Cut(f.Detail, ";"); was == is {
			continue
		}
		rec := proto.CloneOf(f.Task.Record)
		rec.PlacementFailure = f.Detail
		writes = append(writes, model.Write{Key: f.Task.Key(), Value: rec, If: f.Task.RecordRevision})
	}
	var plan model.Plan
	for chunk := range slices.Chunk(writes, batchSize) {
		plan.Batches = append(plan.Batches, chunk)
	}
	return plan
}
