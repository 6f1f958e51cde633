package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"google.golang.org/grpc/status"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Scheduler places and stores tasks that are complete but for their host.
type Scheduler interface {
	// RunTasks finds a host for each task and stores those that got one. A task
	// that is stored already, from an earlier call, is answered as it is.
	RunTasks(ctx context.Context, tasks []*pb.TaskRecord) (placed []*pb.TaskRecord, failures []*pb.Failure, err error)
	// StartTasks stores each task on the instance that it names, where that can
	// take it.
	StartTasks(ctx context.Context, tasks []*pb.TaskRecord) (placed []*pb.TaskRecord, failures []*pb.Failure, err error)
}

// Config is what an API needs; every member is required.
type Config struct {
	Store     store.Store
	Scheduler Scheduler
	// Fences are the leader's, for writes of tasks; an error says that this
	// replica does not lead.
	Fences func() ([]store.Fence, error)
	// AccountID and Region stand in ARNs.
	AccountID, Region string
	Now               func() time.Time
	Logger            *slog.Logger
}

// API implements EcsService. Its methods are safe for concurrent use.
type API struct {
	pb.UnsafeEcsServiceServer // every method is here, or this does not compile
	cfg                       Config
}

var _ pb.EcsServiceServer = (*API)(nil)

// New makes an API.
func New(cfg Config) *API { return &API{cfg: cfg} }

// attempts bounds how often a write is made anew because another writer was
// faster.
const attempts = 10

// commit decides on the newest snapshot and writes the batch, again while other
// writers are faster, and waits until the snapshot shows it. It answers that
// snapshot. An empty batch writes nothing. decide's errors end it as they are;
// others become the API's errors.
func (a *API) commit(ctx context.Context, what string, decide func(*model.Snapshot) (model.Batch, error), fences ...store.Fence) (*model.Snapshot, error) {
	var err error
	for range attempts {
		snap := a.cfg.Store.Snapshot()
		var batch model.Batch
		if batch, err = decide(snap); err != nil {
			return nil, err
		}
		if len(batch) == 0 {
			return snap, nil
		}
		var revision int64
		if revision, err = a.cfg.Store.Commit(ctx, batch, fences...); err == nil {
			snap, err = a.cfg.Store.After(ctx, revision)
		} else if errors.Is(err, store.ErrConflict) {
			// What was faster is at a later revision than the snapshot that was
			// decided on.
			if _, waited := a.cfg.Store.After(ctx, snap.Revision+1); waited == nil {
				continue
			}
		}
		return snap, a.failed(ctx, what, err)
	}
	return nil, a.failed(ctx, what, err)
}

// failed turns an error of the store or the scheduler into the API's.
func (a *API) failed(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, store.ErrConflict):
		return apierror.Unavailable("%s: other writers were faster %d times: try again", what, attempts)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrFenced):
		return apierror.Unavailable("%s: %v: try again", what, err)
	case errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrTooLarge):
		a.cfg.Logger.ErrorContext(ctx, "a write was refused", "operation", what, "err", err)
		return apierror.New(apierror.Server, "%s: %v", what, err)
	}
	return apierror.Unavailable("%s: %v", what, err)
}

// newID is 32 random lower-case hexadecimal digits.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x", b)
}

// newDeploymentID is a service deployment's id as ECS makes them: ecs-svc/ and
// 19 digits.
func newDeploymentID() string {
	low := new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)
	span := new(big.Int).Mul(low, big.NewInt(9))
	n, err := rand.Int(rand.Reader, span)
	if err != nil { // crypto/rand's Reader never fails
		panic(err)
	}
	return "ecs-svc/" + n.Add(n, low).String()
}
