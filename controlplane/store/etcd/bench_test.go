package etcd

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func task(id string) model.Write {
	return model.Write{If: model.AnyRevision, Key: model.Key{Kind: model.KindTask, Cluster: "default", ID: id},
		Value: &pb.TaskRecord{Cluster: "default", Id: id, Service: "web", Instance: "0123456789abcdef0123456789abcdef",
			Task: &pb.Task{TaskArn: "arn:aws:ecs:us-east-1:123456789012:task/default/" + id, DesiredStatus: "RUNNING"}}}
}

// BenchmarkCommitParallel: one operation is one write, synced to disk and seen
// by the watch; 16 writers commit batches of 100.
func BenchmarkCommitParallel(b *testing.B) {
	for _, inFlight := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			s := open(b, Config{Client: server(b), MaxTxnOps: EmbeddedMaxTxnOps, MaxInFlight: inFlight})
			var next atomic.Int64
			var all sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range 16 {
				all.Go(func() {
					for {
						n := next.Add(100)
						if n-100 >= int64(b.N) {
							return
						}
						batch := make(model.Batch, 100)
						for i := range batch {
							batch[i] = task(fmt.Sprintf("%032x", (int(n)+i)%50000))
						}
						commit(b, s, batch)
					}
				})
			}
			all.Wait()
			after(b, s, commit(b, s, model.Batch{put("end", "x", model.AnyRevision)}))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

// BenchmarkCommitSmall: 64 writers commit one write with a fence each.
func BenchmarkCommitSmall(b *testing.B) {
	for _, inFlight := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			s := open(b, Config{Client: server(b), MaxTxnOps: EmbeddedMaxTxnOps, MaxInFlight: inFlight})
			var next atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			for range 64 {
				all.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						commit(b, s, model.Batch{task(fmt.Sprintf("%032x", n%50000))})
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// BenchmarkCommitSingle: one writer, one write, until the snapshot shows it.
func BenchmarkCommitSingle(b *testing.B) {
	s := open(b, Config{Client: server(b), MaxTxnOps: EmbeddedMaxTxnOps})
	for i := 0; b.Loop(); i++ {
		after(b, s, commit(b, s, model.Batch{task(fmt.Sprintf("%032x", i%1000))}))
	}
}
