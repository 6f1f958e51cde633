package render

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"sigs.k8s.io/yaml"

	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
)

// Format is how to write.
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Formats are all formats, for the flag's help and completion.
var Formats = []string{string(Table), string(JSON), string(YAML)}

// ParseFormat reads the flag.
func ParseFormat(s string) (Format, error) {
	if !slices.Contains(Formats, s) {
		return "", fmt.Errorf("--output is %q: it must be %s", s, strings.Join(Formats, ", "))
	}
	return Format(s), nil
}

// Message writes an ECS message as JSON or YAML.
func Message(w io.Writer, f Format, m proto.Message) error {
	data, err := ecsjson.Marshal(m, ecsjson.Options{Indent: "    "})
	if err != nil {
		return err
	}
	if f == YAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
	} else {
		data = append(data, '\n')
	}
	_, err = w.Write(data)
	return err
}

// Palette colours text, or leaves it as it is.
type Palette struct{ On bool }

func (p Palette) paint(code, s string) string {
	if !p.On || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Bold makes text stand out.
func (p Palette) Bold(s string) string { return p.paint("1", s) }

// Dim makes text step back.
func (p Palette) Dim(s string) string { return p.paint("2", s) }

// Bad marks a failure.
func (p Palette) Bad(s string) string { return p.paint("31", s) }

// Status colours a status by what it means.
func (p Palette) Status(s string) string {
	switch s {
	case "RUNNING", "ACTIVE", "COMPLETED", "HEALTHY", "PRIMARY", "CONNECTED":
		return p.paint("32", s)
	case "PROVISIONING", "PENDING", "ACTIVATING", "IN_PROGRESS", "DRAINING", "DEACTIVATING", "STOPPING", "DEPROVISIONING":
		return p.paint("33", s)
	case "FAILED", "UNHEALTHY", "DISCONNECTED":
		return p.paint("31", s)
	case "STOPPED", "INACTIVE", "DELETED":
		return p.paint("2", s)
	}
	return s
}

// Rows writes an aligned table; columns are two spaces apart, and the last one
// is not filled up. A table without rows is its heading.
func Rows(w io.Writer, p Palette, header []string, rows [][]string) error {
	all := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for _, r := range all {
		for i, c := range r {
			widths[i] = max(widths[i], width(c))
		}
	}
	var b strings.Builder
	for n, r := range all {
		var line strings.Builder
		for i, c := range r {
			cell := c
			if n == 0 {
				cell = p.Bold(c)
			}
			line.WriteString(cell)
			if i < len(r)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-width(c)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Fields writes names and values, the values aligned; empty values are left out.
func Fields(w io.Writer, p Palette, pairs ...string) error {
	longest := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			longest = max(longest, width(pairs[i]))
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s%s  %s\n", p.Bold(pairs[i]), strings.Repeat(" ", longest-width(pairs[i])), pairs[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// width is how wide a text stands, without its colours.
func width(s string) int {
	n := 0
	for {
		start := strings.Index(s, "\x1b[")
		if start < 0 {
			return n + utf8.RuneCountInString(s)
		}
		n += utf8.RuneCountInString(s[:start])
		end := strings.IndexByte(s[start:], 'm')
		if end < 0 {
			return n
		}
		s = s[start+end+1:]
	}
}

// Age writes how long ago a time was, in its two largest units; "-" for none.
func Age(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "-"
	}
	switch d := max(0, now.Sub(t.AsTime())); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// Clock writes a time as the user's clock shows it; empty for none.
func Clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05")
}

// ShortARN answers what follows the resource's kind in an ARN: "web:3" of a
// task definition's, the id of a task's. Other text is answered as it is.
func ShortARN(s string) string {
	if !strings.HasPrefix(s, "arn:") {
		return s
	}
	return s[strings.LastIndexByte(s, '/')+1:]
}
