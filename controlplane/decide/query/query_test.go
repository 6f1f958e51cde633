package query

import (
	"errors"
	"testing"
)

type target map[string][]string

func (t target) Values(s string) []string { return t[s] }

var host = target{
	"attribute:ecs.instance-type": {"t2.small"}, "attribute:stack": {"prod"}, "agentVersion": {"1.10.2"},
	"runningTasksCount": {"3"}, "task:group": {"service:web", "service:db"}, "agentConnected": {"true"},
}

func TestMatches(t *testing.T) {
	for s, want := range map[string]bool{
		"attribute:stack == prod":                                              true,
		"attribute:stack equals test":                                          false,
		"attribute:stack != test":                                              true,
		"attribute:none != test":                                               true,
		"attribute:stack exists":                                               true,
		"attribute:none !exists":                                               true,
		"attribute:none not_exists and attribute:stack exists":                 true,
		"attribute:ecs.instance-type in [t2.small, t2.medium]":                 true,
		"attribute:ecs.instance-type !in ['t2.large', \"t2.medium\"]":          true,
		"attribute:ecs.instance-type =~ t2.*":                                  true,
		"attribute:ecs.instance-type !~ g2.*":                                  true,
		"agentVersion >= 1.9.0":                                                true,
		"agentVersion less_than 1.9":                                           false,
		"runningTasksCount > 2 && runningTasksCount < 10":                      true,
		"runningTasksCount greater_than_equal 4 || attribute:stack == prod":    true,
		"not (task:group == service:web)":                                      false,
		"!(task:group == service:none) and agentConnected == true":             true,
		"attribute:stack == a or attribute:stack == b and agentConnected == x": false,
	} {
		e, err := Parse(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if got := e.Matches(host); got != want {
			t.Errorf("%s is %v, want %v", s, got, want)
		}
	}
}

func TestErrorsNameTheColumn(t *testing.T) {
	for s, column := range map[string]int{
		"":                             1,
		"colour == red":                1,
		"attribute:stack":              16,
		"attribute:stack == ":          20,
		"attribute:stack == 'x":        20,
		"attribute:stack =~ [":         20,
		"attribute:stack == a b":       22,
		"(attribute:stack == a":        22,
		"attribute:stack in [a b]":     23,
		"attribute:stack == a and":     25,
		"attribute:stack == a && == b": 25,
	} {
		_, err := Parse(s)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: no error", s)
		} else if e.Column != column {
			t.Errorf("%q: %v, want column %d", s, err, column)
		}
	}
}

func TestAbout(t *testing.T) {
	e, err := Parse("attribute:a == b or (not task:group == x and agentConnected exists)")
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]bool{"attribute:a": true, "task:group": true, "agentConnected": true, "agentVersion": false} {
		if e.About(subject) != want {
			t.Errorf("%s: want %v", subject, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("attribute:a == b and (not x in [1,2])")
	f.Add("attribute:ecs.instance-type =~ t2.* || !agentConnected exists")
	f.Fuzz(func(_ *testing.T, s string) {
		if e, err := Parse(s); err == nil {
			e.Matches(host)
		}
	})
}
