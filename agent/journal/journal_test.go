package journal

import (
	"path/filepath"
	"strings"
	"testing"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestWhatIsNotedSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Assign(&pb.Assignment{TaskId: "a", Service: "web"}, &pb.Assignment{TaskId: "b"}, &pb.Assignment{TaskId: "c"}); err != nil {
		t.Fatal(err)
	}
	if err := j.NoteAll([]*pb.TaskStatusRecord{{Task: "a", Version: 1}, {Task: "c", Version: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Note(&pb.TaskStatusRecord{Task: "a", LastStatus: "RUNNING", Version: 3}); err != nil {
		t.Fatal(err)
	}
	if err := j.Forget("b"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	all, err := j.Load()
	if err != nil || len(all) != 2 || all["c"].Status.GetVersion() != 5 || all["a"].Assignment.GetService() != "web" || all["a"].Status.GetVersion() != 3 {
		t.Errorf("the journal has %v, %v", all, err)
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("error is %v", err)
	}
}
