package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
)

// Labels of ours, which List does not answer.
const (
	labelStarted    = "plimsoll/started"
	labelStopSignal = "plimsoll/stop-signal"
	// labelEmpty names the labels without a value, which containerd forgets.
	labelEmpty = "plimsoll/empty-labels"
)

// Create implements runtime.Runtime.
func (r *Runtime) Create(ctx context.Context, spec runtime.Spec) (_ runtime.Container, err error) {
	ctx = r.in(ctx)
	unlock, err := r.locks.lock(ctx, spec.ID)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	defer unlock()
	c, err := r.create(ctx, spec)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	return c, nil
}

func (r *Runtime) create(ctx context.Context, spec runtime.Spec) (_ runtime.Container, err error) {
	i, err := r.image(ctx, spec.Image)
	if err != nil {
		return runtime.Container{}, err
	}
	record, err := r.record(ctx, i, spec)
	if err != nil {
		return runtime.Container{}, err
	}
	made, err := r.containers.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		have, err := r.get(ctx, spec.ID)
		switch {
		case err == nil && have.Status == runtime.Created:
			return have, nil
		case err == nil:
			return runtime.Container{}, fmt.Errorf("exists already and is %s", have.Status)
		case !errdefs.IsNotFound(err):
			return runtime.Container{}, err
		}
		// What a launch that never ended has left.
		if err := r.remove(ctx, spec.ID); err != nil {
			return runtime.Container{}, err
		}
		made, err = r.containers.Create(ctx, record)
		if err != nil {
			return runtime.Container{}, fmt.Errorf("write record: %w", err)
		}
	} else if err != nil {
		return runtime.Container{}, fmt.Errorf("write record: %w", err)
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := cleanup(ctx)
		defer cancel()
		if failed := r.remove(ctx, spec.ID); failed != nil {
			r.log.Error("a failed create was not removed", "container", spec.ID, "err", failed)
		}
	}()
	pid, err := r.createTask(ctx, i, spec)
	if err != nil {
		return runtime.Container{}, err
	}
	out := answer(made)
	out.Status, out.Pid = runtime.Created, int(pid)
	return out, nil
}

// record is the container's, with its complete specification.
func (r *Runtime) record(ctx context.Context, i *image, spec runtime.Spec) (containers.Container, error) {
	complete, err := completeSpec(ctx, r.host, i, spec)
	if err != nil {
		return containers.Container{}, err
	}
	encoded, err := typeurl.MarshalAny(complete)
	if err != nil {
		return containers.Container{}, fmt.Errorf("encode specification: %w", err)
	}
	labels := make(map[string]string, len(spec.Labels)+1)
	var empty []string
	for k, v := range spec.Labels {
		if labels[k] = v; v == "" {
			empty = append(empty, k)
		}
	}
	if len(empty) > 0 {
		slices.Sort(empty)
		labels[labelEmpty] = strings.Join(empty, "\n")
	}
	if i.stopSignal != int(syscall.SIGTERM) {
		labels[labelStopSignal] = strconv.Itoa(i.stopSignal)
	}
	return containers.Container{
		ID: spec.ID, Labels: labels, Image: spec.Image, Runtime: r.shim, Spec: encoded,
		Snapshotter: r.config.Snapshotter, SnapshotKey: spec.ID,
	}, nil
}

// createTask makes snapshot, shim and process, and answers its pid.
func (r *Runtime) createTask(ctx context.Context, i *image, spec runtime.Spec) (uint32, error) {
	mounts, err := r.snapshots.Prepare(ctx, spec.ID, i.chainID)
	if errdefs.IsNotFound(err) {
		// The image was removed and came back since it was read.
		r.images.drop(spec.Image)
		if i, err = r.image(ctx, spec.Image); err != nil {
			return 0, err
		}
		mounts, err = r.snapshots.Prepare(ctx, spec.ID, i.chainID)
	}
	if err != nil {
		return 0, fmt.Errorf("prepare root filesystem: %w", err)
	}
	request := &tasks.CreateTaskRequest{ContainerID: spec.ID, Rootfs: make([]*types.Mount, 0, len(mounts))}
	for _, m := range mounts {
		request.Rootfs = append(request.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	if spec.LogPath != "" {
		if request.Stdout, request.Stderr, err = openLog(spec.LogPath); err != nil {
			return 0, err
		}
	}
	created, err := r.tasks.Create(ctx, request)
	if err != nil {
		return 0, errgrpc.ToNative(err)
	}
	return created.Pid, nil
}

// openLog makes the log file and answers its name as the shim is given it: twice,
// and not alike. The shim opens a plain path for append. Of a file:// URI, or of
// one name given twice, it closes the file when stdout ends, and loses what
// stderr still has (containerd 1.6 and 2.4).
func openLog(name string) (stdout, stderr string, err error) {
	dir, base := filepath.Split(filepath.Clean(name))
	if !filepath.IsAbs(dir) {
		return "", "", fmt.Errorf("open log: %s is not an absolute path", name)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", "", fmt.Errorf("open log: %w", err)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return "", "", fmt.Errorf("open log: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", "", fmt.Errorf("open log: %w", err)
	}
	return dir + base, dir + "./" + base, nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	ctx = r.in(ctx)
	unlock, err := r.locks.lock(ctx, id)
	if err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	defer unlock()
	// The label is written while the process starts; both are waited for.
	labelled := make(chan error, 1)
	go func() { labelled <- r.markStarted(ctx, id) }()
	_, err = r.tasks.Start(ctx, &tasks.StartRequest{ContainerID: id})
	err, labelErr := errgrpc.ToNative(err), <-labelled
	if err != nil {
		have, getErr := r.get(ctx, id)
		switch {
		case getErr == nil && have.Status == runtime.Running:
			err = nil
		case errdefs.IsNotFound(getErr):
			return fmt.Errorf("start container %s: %w", id, runtime.ErrNotFound)
		default:
			return fmt.Errorf("start container %s: %w", id, err)
		}
	}
	if labelErr != nil {
		// It runs; the label is written when it is next listed.
		r.log.Warn("container started, and not marked so", "container", id, "err", labelErr)
	}
	return nil
}

func (r *Runtime) markStarted(ctx context.Context, id string) error {
	_, err := r.containers.Update(ctx, containers.Container{ID: id, Labels: map[string]string{labelStarted: "true"}}, "labels."+labelStarted)
	return err
}
