package session

import (
	"strings"
	"testing"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestParseToken(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	if pin, err := ParseToken("PLIM1.id.secret." + hash + "\n"); err != nil || pin[0] != 0xab {
		t.Errorf("a good token: %v, %v", pin, err)
	}
	for _, bad := range []string{"", "PLIM1", "PLIM1.id.secret.zz", "PLIM2.id.secret." + hash, "PLIM1..secret." + hash, "PLIM1.id.secret." + hash[:62]} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("PLIM1.id.secret." + strings.Repeat("ab", 32))
	f.Fuzz(func(_ *testing.T, s string) { _, _ = ParseToken(s) })
}

func TestReporterKeepsTheNewestUntilAcknowledged(t *testing.T) {
	r := newReporter()
	r.put(&pb.TaskStatusRecord{Task: "a", Version: 1})
	r.put(&pb.TaskStatusRecord{Task: "a", Version: 2})
	sent := r.batch()
	if len(sent) != 1 || sent[0].GetVersion() != 2 {
		t.Fatalf("the batch is %v", sent)
	}
	r.put(&pb.TaskStatusRecord{Task: "a", Version: 3})
	r.done(sent)
	if sent = r.batch(); len(sent) != 1 || sent[0].GetVersion() != 3 {
		t.Fatalf("what changed since is lost: %v", sent)
	}
	r.done(sent)
	if sent = r.batch(); sent != nil {
		t.Errorf("left: %v", sent)
	}
}
