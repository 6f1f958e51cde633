package model

import (
	"testing"
	"time"
)

func TestKeysParseBack(t *testing.T) {
	for _, k := range []Key{
		{KindCluster, "", "default"},
		{KindDefinition, "", "web:7"},
		{KindTask, "default", "0123456789abcdef0123456789abcdef"},
		{KindService, "a-b", "x/y"},
	} {
		got, err := ParseKey(k.String())
		if err != nil || got != k {
			t.Errorf("%s parses as %v, %v", k, got, err)
		}
	}
	for _, s := range []string{"", "/", "/plimsoll/", "/plimsoll/tasks", "/plimsoll/tasks/c", "/plimsoll/tasks/c/", "/plimsoll/tasks//t", "/plimsoll//c/t", "/other/tasks/c/t"} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("%q parses as %v", s, k)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("/plimsoll/tasks/default/0123")
	f.Add("/plimsoll/clusters/-/default")
	f.Add("/plimsoll///")
	f.Add("/plimsoll/a/b/c/d")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && k.String() != s {
			t.Fatalf("%q parses as %+v, which is %q", s, k, k.String())
		}
	})
}

func TestEveryKindHasARecord(t *testing.T) {
	for _, k := range allKinds {
		if NewRecord(k) == nil {
			t.Errorf("%s has none", k)
		}
	}
	if NewRecord("ghosts") != nil {
		t.Error("an unknown kind has one")
	}
}

func TestWakeKeepsTheSooner(t *testing.T) {
	var p Plan
	p.Wake(time.Time{})
	p.Wake(time.Unix(9, 0))
	p.Wake(time.Unix(7, 0))
	p.Wake(time.Unix(8, 0))
	if !p.WakeAt.Equal(time.Unix(7, 0)) {
		t.Fatalf("wakes at %v", p.WakeAt)
	}
}
