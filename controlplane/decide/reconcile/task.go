package reconcile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/resources"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// launch creates n tasks of the primary deployment.
func (w *work) launch(n int) {
	for range min(n, batchSize-len(w.creates)) {
		t := w.newTask(w.primary().GetLaunched())
		if t == nil {
			w.tellOnce("was unable to start a task because there is no task definition " + w.primary().GetDeployment().GetTaskDefinition() + ".")
			return
		}
		w.create(t)
	}
}

// launchOn creates a task that is bound to the instance.
func (w *work) launchOn(i *model.Instance) {
	host := w.cluster() + "/" + i.Record.GetId()
	if len(w.creates) >= batchSize || w.taken[host] {
		return
	}
	t := w.newTask(w.primary().GetLaunched())
	if t == nil {
		return
	}
	w.taken[host] = true
	t.Instance = i.Record.GetId()
	t.Task.ContainerInstanceArn = i.Record.GetInstance().GetContainerInstanceArn()
	w.create(t)
}

func (w *work) create(t *pb.TaskRecord) {
	w.primary().Launched++
	w.creates = append(w.creates, model.Write{Key: model.Key{Kind: model.KindTask, Cluster: t.GetCluster(), ID: t.GetId()}, Value: t})
	w.started = append(w.started, t.GetId())
}

// newTask is the deployment's task with that number; nil if its task definition
// is gone.
func (w *work) newTask(number int64) *pb.TaskRecord {
	d := w.primary().GetDeployment()
	def := w.s.DefinitionOf(d.GetTaskDefinition())
	if def == nil {
		return nil
	}
	id := w.hash(d.GetId(), strconv.FormatInt(number, 10))[:32]
	name := w.desire.GetServiceName()
	arn := w.desire.GetServiceArn()
	// arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/NAME
	prefix := arn[:strings.Index(arn+":service/", ":service/")]
	takes := resources.Of(def.GetTaskDefinition(), nil)
	t := &pb.Task{
		TaskArn: fmt.Sprintf("%s:task/%s/%s", prefix, w.cluster(), id), ClusterArn: w.desire.GetClusterArn(),
		TaskDefinitionArn: d.GetTaskDefinition(), Group: "service:" + name, StartedBy: d.GetId(),
		DesiredStatus: taskstate.Running.String(), CreatedAt: timestamppb.New(w.now), Cpu: strconv.FormatInt(takes.GetCpu(), 10), Memory: strconv.FormatInt(takes.GetMemory(), 10),
		LaunchType: pb.LaunchType_LAUNCH_TYPE_EC2, Overrides: &pb.TaskOverride{},
		EnableExecuteCommand: w.desire.GetEnableExecuteCommand(),
	}
	switch w.desire.GetPropagateTags() {
	case pb.PropagateTags_PROPAGATE_TAGS_SERVICE:
		t.Tags = slices.Clone(w.desire.GetTags())
	case pb.PropagateTags_PROPAGATE_TAGS_TASK_DEFINITION:
		t.Tags = slices.Clone(def.GetTags())
	}
	if w.desire.GetEnableEcsManagedTags() {
		t.Tags = append(t.Tags, &pb.Tag{Key: "aws:ecs:clusterName", Value: w.cluster()}, &pb.Tag{Key: "aws:ecs:serviceName", Value: name})
	}
	return &pb.TaskRecord{
		Cluster: w.cluster(), Id: id, Task: t, Service: name, DeploymentId: d.GetId(), Resources: takes,
		PlacementConstraints: w.desire.GetPlacementConstraints(), PlacementStrategy: w.desire.GetPlacementStrategy(),
	}
}

// stop asks a task to stop. One that no host knows of is over at once.
func (w *work) stop(t *model.Task, reason string) {
	r := proto.CloneOf(t.Record)
	r.Task.DesiredStatus = taskstate.Stopped.String()
	r.StopCode, r.StoppedReason = pb.TaskStopCode_TASK_STOP_CODE_SERVICE_SCHEDULER_INITIATED, reason
	r.StoppingAt = timestamppb.New(w.now)
	if r.GetInstance() == "" {
		r.StoppedAt = r.GetStoppingAt()
	}
	w.stops = append(w.stops, model.Write{Key: t.Key(), Value: r, If: t.RecordRevision})
	w.ended = append(w.ended, r.GetId())
}

// hash is hexadecimal, of this service (and not of one before it that had its
// name) and the parts.
func (w *work) hash(parts ...string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%d", w.desire.GetServiceArn(), w.svc.Record.GetDeploymentId(), w.desire.GetCreatedAt().AsTime().UnixNano())
	for _, p := range parts {
		fmt.Fprintf(h, "\x00%s", p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digits are 19 decimal digits made from a text, as deployment ids have.
func digits(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%019d", binary.BigEndian.Uint64(sum[:])%1e19)
}
