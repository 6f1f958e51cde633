package model

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestLastStatus(t *testing.T) {
	at := timestamppb.New(time.Unix(9, 0))
	for name, c := range map[string]struct {
		record *pb.TaskRecord
		status *pb.TaskStatusRecord
		want   string
		holds  bool
	}{
		"new":                      {&pb.TaskRecord{}, nil, "PROVISIONING", false},
		"bound":                    {&pb.TaskRecord{Instance: "i"}, nil, "PENDING", true},
		"running":                  {&pb.TaskRecord{Instance: "i"}, &pb.TaskStatusRecord{LastStatus: "RUNNING"}, "RUNNING", true},
		"stopped by its host":      {&pb.TaskRecord{Instance: "i"}, &pb.TaskStatusRecord{LastStatus: "STOPPED", StoppedAt: at}, "STOPPED", false},
		"given up, once running":   {&pb.TaskRecord{Instance: "i", StoppedAt: at}, &pb.TaskStatusRecord{LastStatus: "RUNNING"}, "STOPPED", false},
		"given up before a host":   {&pb.TaskRecord{StoppedAt: at}, nil, "STOPPED", false},
		"a status that is unknown": {&pb.TaskRecord{Instance: "i"}, &pb.TaskStatusRecord{LastStatus: "DANCING"}, "PENDING", true},
	} {
		t.Run(name, func(t *testing.T) {
			task := &Task{Record: c.record, Status: c.status}
			if got := task.LastStatus().String(); got != c.want || task.Holds() != c.holds {
				t.Errorf("%s, holds %v; want %s, %v", got, task.Holds(), c.want, c.holds)
			}
			if got := task.StoppedAt(); got.IsZero() == task.Stopped() {
				t.Errorf("stopped at %v", got)
			}
		})
	}
}

func TestViewJoinsBothRecordsAndChangesNeither(t *testing.T) {
	record := &pb.TaskRecord{Instance: "i", StoppedAt: timestamppb.New(time.Unix(9, 0)),
		StopCode: pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED, StoppedReason: "asked",
		Task: &pb.Task{TaskArn: "arn", DesiredStatus: "STOPPED"}}
	status := &pb.TaskStatusRecord{LastStatus: "RUNNING", Version: 4, Containers: []*pb.Container{{Name: "web", LastStatus: "RUNNING"}}}
	v := (&Task{Record: record, Status: status}).View()
	if v.GetLastStatus() != "STOPPED" || v.GetContainers()[0].GetLastStatus() != "STOPPED" || v.GetVersion() != 5 || v.GetStoppedReason() != "asked" {
		t.Fatalf("view %v", v)
	}
	if status.GetContainers()[0].GetLastStatus() != "RUNNING" || record.GetTask().GetLastStatus() != "" {
		t.Fatal("the view changed a record")
	}
}
