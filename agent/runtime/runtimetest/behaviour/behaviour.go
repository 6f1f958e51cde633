package behaviour

import (
	"flag"
	"fmt"
	"io"
	"time"
)

// Behaviour is what a test container does.
type Behaviour struct {
	// Exit is the code it ends with when After has passed; negative is never.
	Exit  int
	After time.Duration
	// IgnoreTerm makes SIGTERM change nothing.
	IgnoreTerm bool
	// TermExit is the code to end with at SIGTERM when it is not ignored.
	TermExit int
	// Print is written to stdout, PrintErr to stderr, Lines numbered lines.
	Print, PrintErr string
	Lines           int
	// Allocate is how many MiB of memory to fill.
	Allocate int
	// Children are processes to start that run until they are killed.
	Children int
	// Report prints what the process sees of itself as JSON.
	Report bool
}

// Forever is an After that never comes.
const Forever time.Duration = -1

// Args are the arguments that Parse reads again.
func (b Behaviour) Args() []string {
	return []string{
		fmt.Sprintf("-exit=%d", b.Exit), fmt.Sprintf("-after=%s", b.After),
		fmt.Sprintf("-ignore-term=%t", b.IgnoreTerm), fmt.Sprintf("-term-exit=%d", b.TermExit),
		"-print=" + b.Print, "-print-err=" + b.PrintErr, fmt.Sprintf("-lines=%d", b.Lines),
		fmt.Sprintf("-allocate=%d", b.Allocate), fmt.Sprintf("-children=%d", b.Children), fmt.Sprintf("-report=%t", b.Report),
	}
}

// Parse reads arguments. Those that Args did not make are an error.
func Parse(args []string) (Behaviour, error) {
	var b Behaviour
	f := flag.NewFlagSet("behaviour", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.IntVar(&b.Exit, "exit", 0, "")
	f.DurationVar(&b.After, "after", 0, "")
	f.BoolVar(&b.IgnoreTerm, "ignore-term", false, "")
	f.IntVar(&b.TermExit, "term-exit", 0, "")
	f.StringVar(&b.Print, "print", "", "")
	f.StringVar(&b.PrintErr, "print-err", "", "")
	f.IntVar(&b.Lines, "lines", 0, "")
	f.IntVar(&b.Allocate, "allocate", 0, "")
	f.IntVar(&b.Children, "children", 0, "")
	f.BoolVar(&b.Report, "report", false, "")
	if err := f.Parse(args); err != nil {
		return Behaviour{}, fmt.Errorf("parse behaviour: %w", err)
	}
	if f.NArg() > 0 {
		return Behaviour{}, fmt.Errorf("parse behaviour: unexpected argument %q", f.Arg(0))
	}
	return b, nil
}
