package render

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestRowsAlignWhatIsColouredToo(t *testing.T) {
	for _, on := range []bool{false, true} {
		p := Palette{On: on}
		var b strings.Builder
		if err := Rows(&b, p, []string{"TASK", "STATUS", "AGE"}, [][]string{
			{"a", p.Status("RUNNING"), "3s"}, {"größer", p.Status("STOPPED"), ""},
		}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(b.String()) {
			got = append(got, strip(line))
		}
		want := []string{"TASK    STATUS   AGE\n", "a       RUNNING  3s\n", "größer  STOPPED\n"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("colour %v (-want +got):\n%s", on, diff)
		}
		if on != strings.Contains(b.String(), "\x1b[") {
			t.Errorf("colour %v: %q", on, b.String())
		}
	}
}

func strip(s string) string {
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return s
		}
		s = s[:i] + s[i+strings.IndexByte(s[i:], 'm')+1:]
	}
}

func TestAgeHasTwoUnits(t *testing.T) {
	now := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 90 * time.Minute: "1h30m",
		47 * time.Hour: "47h0m", 49 * time.Hour: "2d1h",
	} {
		if got := Age(timestamppb.New(now.Add(-d)), now); got != want {
			t.Errorf("Age of %s = %s, want %s", d, got, want)
		}
	}
	if got := Age(nil, now); got != "-" {
		t.Errorf("Age of none = %s", got)
	}
}

func TestShortARN(t *testing.T) {
	for in, want := range map[string]string{
		"arn:aws:ecs:us-east-1:123456789012:task-definition/web:3": "web:3",
		"arn:aws:ecs:us-east-1:123456789012:task/default/0123abcd": "0123abcd",
		"web": "web", "": "",
	} {
		if got := ShortARN(in); got != want {
			t.Errorf("ShortARN(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMessageInBothFormats(t *testing.T) {
	m := &pb.DeregisterContainerInstanceRequest{Cluster: "c", ContainerInstance: "i"}
	for f, want := range map[Format]string{
		JSON: "{\n    \"cluster\": \"c\",\n    \"containerInstance\": \"i\"\n}\n",
		YAML: "cluster: c\ncontainerInstance: i\n",
	} {
		var b strings.Builder
		if err := Message(&b, f, m); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v", f, b.String(), err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil {
		t.Error("ParseFormat takes xml")
	}
}

func TestFieldsLeaveOutWhatIsEmpty(t *testing.T) {
	var b strings.Builder
	if err := Fields(&b, Palette{}, "name", "web", "reason", "", "status", "ACTIVE"); err != nil {
		t.Fatal(err)
	}
	if want := "name    web\nstatus  ACTIVE\n"; b.String() != want {
		t.Errorf("Fields = %q, want %q", b.String(), want)
	}
}
