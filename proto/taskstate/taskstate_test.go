package taskstate

import "testing"

func TestParseIsTheInverseOfString(t *testing.T) {
	for s := None; s <= Stopped; s++ {
		if got := Parse(s.String()); got != s {
			t.Errorf("Parse(%q) = %v, want %v", s.String(), got, s)
		}
	}
	for _, bad := range []string{"running", "GONE"} {
		if got := Parse(bad); got != None {
			t.Errorf("Parse(%q) = %v, want None", bad, got)
		}
	}
	if got := Status(42).String(); got != "" {
		t.Errorf("String of an unknown status = %q", got)
	}
}

func TestStatusesOnlyMoveForward(t *testing.T) {
	for from := None; from <= Stopped; from++ {
		for to := None; to <= Stopped; to++ {
			if got, want := from.CanMove(to), to > from; got != want {
				t.Errorf("%v.CanMove(%v) = %v", from, to, got)
			}
		}
	}
}
