package validate

import (
	"fmt"
	"regexp"
	"strings"
)

// Problem is one thing that is wrong with a request.
type Problem struct {
	// Path leads to the member in ECS's spelling: containerDefinitions[0].cpu.
	Path string
	// Text is what is wrong and how to mend it.
	Text string
}

// Error is what is wrong with a request: one problem or more.
type Error struct{ Problems []Problem }

// shown bounds how many problems an error's text has.
const shown = 5

// Error is the problems in one line.
func (e *Error) Error() string {
	var parts []string
	for i, p := range e.Problems {
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Problems)-shown))
			break
		}
		parts = append(parts, p.Path+": "+p.Text)
	}
	return strings.Join(parts, "; ")
}

// problems gathers them.
type problems []Problem

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, Problem{path, fmt.Sprintf(format, args...)})
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return &Error{p}
}

var (
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	portNamePattern = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,63}$`)
	userPattern     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*\$?)?$`)
	hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	attrPattern     = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,128}$`)
	attrValue       = regexp.MustCompile(`^([A-Za-z0-9_./:\\@-]([A-Za-z0-9_./:\\@ -]{0,126}[A-Za-z0-9_./:\\@-])?)?$`)
	groupPattern    = regexp.MustCompile(`^[A-Za-z0-9_:./-]{0,255}$`)
	startedPattern  = regexp.MustCompile(`^[A-Za-z0-9_/-]{0,128}$`)
)

// name checks a name of ECS's: 1 to 255 letters, digits, hyphens, underscores.
func (p *problems) name(path, s string) {
	switch {
	case s == "":
		p.add(path, "required: give a name")
	case !namePattern.MatchString(s):
		p.add(path, "%s is not a name: use 1 to 255 letters, digits, hyphens and underscores", quote(s))
	}
}

// quote shows text from a request, short.
func quote(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}
