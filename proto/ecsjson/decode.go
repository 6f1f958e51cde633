package ecsjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxErrors bounds how many errors of one document are answered.
const maxErrors = 10

// Error says what is wrong with one member.
type Error struct {
	// Path leads to the member: containerDefinitions[0].memory.
	Path string
	// Problem is what is wrong with it.
	Problem string
}

func (e *Error) Error() string { return e.Path + ": " + e.Problem }

// Unmarshal reads ECS's JSON into m, which it resets first. Its error is a
// syntax error with its line, or one or more *Error joined, one a line.
func Unmarshal(data []byte, m proto.Message) error {
	o, err := parse(data)
	if err != nil {
		return err
	}
	return fill(o, m)
}

func fill(o object, m proto.Message) error {
	proto.Reset(m)
	var d decoder
	d.message("", o, m.ProtoReflect())
	if n := len(d.errs); n > maxErrors {
		d.errs = append(d.errs[:maxErrors:maxErrors], fmt.Errorf("and %d more", n-maxErrors))
	}
	return errors.Join(d.errs...)
}

type decoder struct{ errs []error }

func (d *decoder) fail(path, format string, args ...any) {
	d.errs = append(d.errs, &Error{path, fmt.Sprintf(format, args...)})
}

func (d *decoder) message(path string, o object, m protoreflect.Message) {
	shape := shapeOf(m.Descriptor())
	for _, member := range o {
		at := member.name
		if path != "" {
			at = path + "." + at
		}
		fd := shape.byName[member.name]
		if fd == nil {
			d.fail(at, "unknown member%s", suggest(member.name, shape.names()))
			continue
		}
		if member.value == nil {
			continue
		}
		switch {
		case fd.IsMap():
			d.mapping(at, member.value, m, fd)
		case fd.IsList():
			d.list(at, member.value, m, fd)
		default:
			if v, ok := d.scalar(at, member.value, fd, m.NewField); ok {
				m.Set(fd, v)
			}
		}
	}
}

func (d *decoder) list(path string, n node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	items, ok := n.([]node)
	if !ok {
		d.fail(path, "expected a list, got %s", describe(n))
		return
	}
	if len(items) == 0 {
		if cleared := shapeOf(m.Descriptor()).cleared; cleared != nil {
			m.Mutable(cleared).List().Append(protoreflect.ValueOfString(fd.JSONName()))
		}
		return
	}
	list := m.Mutable(fd).List()
	element := func(protoreflect.FieldDescriptor) protoreflect.Value { return list.NewElement() }
	for i, item := range items {
		if v, ok := d.scalar(fmt.Sprintf("%s[%d]", path, i), item, fd, element); ok {
			list.Append(v)
		}
	}
}

func (d *decoder) mapping(path string, n node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	o, ok := n.(object)
	if !ok {
		d.fail(path, "expected an object, got %s", describe(n))
		return
	}
	for _, member := range o {
		if member.value == nil {
			continue
		}
		if v, ok := d.scalar(path+"."+member.name, member.value, fd.MapValue(), nil); ok {
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(member.name).MapKey(), v)
		}
	}
}

// scalar reads one value that is no list and no map. make gives the new message
// of a message field.
func (d *decoder) scalar(path string, n node, fd protoreflect.FieldDescriptor, make func(protoreflect.FieldDescriptor) protoreflect.Value) (protoreflect.Value, bool) {
	expected := ""
	switch fd.Kind() {
	case protoreflect.MessageKind:
		if fd.Message().FullName() == timestampName {
			if t, ok := parseTime(n); ok {
				return protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()), true
			}
			expected = "a time (RFC 3339, or seconds since 1970)"
		} else if o, ok := n.(object); ok {
			v := make(fd)
			d.message(path, o, v.Message())
			return v, true
		} else {
			expected = "an object"
		}
	case protoreflect.StringKind:
		if s, ok := n.(string); ok {
			return protoreflect.ValueOfString(s), true
		}
		if v, ok := n.(json.Number); ok && numeric(fd) {
			return protoreflect.ValueOfString(v.String()), true
		}
		expected = "a string"
	case protoreflect.BoolKind:
		if b, ok := n.(bool); ok {
			return protoreflect.ValueOfBool(b), true
		}
		expected = "true or false"
	case protoreflect.Int32Kind:
		if i, err := strconv.ParseInt(number(n), 10, 32); err == nil {
			return protoreflect.ValueOfInt32(int32(i)), true
		}
		expected = "an integer of 32 bits"
	case protoreflect.Int64Kind:
		if i, err := strconv.ParseInt(number(n), 10, 64); err == nil {
			return protoreflect.ValueOfInt64(i), true
		}
		expected = "an integer"
	case protoreflect.DoubleKind:
		if f, err := strconv.ParseFloat(number(n), 64); err == nil {
			return protoreflect.ValueOfFloat64(f), true
		}
		expected = "a number"
	case protoreflect.EnumKind:
		s, ok := n.(string)
		if v, found := parseEnum(fd.Enum(), s); ok && found {
			return protoreflect.ValueOfEnum(v), true
		}
		expected = "one of " + strings.Join(Spellings(fd.Enum()), ", ")
	default:
		expected = "nothing: the member cannot be given as JSON"
	}
	d.fail(path, "expected %s, got %s", expected, describe(n))
	return protoreflect.Value{}, false
}

// number is the literal of a JSON number, empty for anything else.
func number(n node) string {
	v, _ := n.(json.Number)
	return v.String()
}

// numeric says whether the text member may be given as a number.
func numeric(fd protoreflect.FieldDescriptor) bool {
	return fd.Name() == "cpu" || fd.Name() == "memory"
}

// parseTime reads an RFC 3339 string, or epoch seconds to the millisecond, from
// the year 1 to 9999.
func parseTime(n node) (time.Time, bool) {
	var t time.Time
	switch v := n.(type) {
	case string:
		var err error
		if t, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return t, false
		}
	case json.Number:
		f, err := v.Float64()
		if err != nil || math.Abs(f) > 1e12 {
			return t, false
		}
		t = time.UnixMilli(int64(math.Round(f * 1000)))
	default:
		return t, false
	}
	return t, timestamppb.New(t).IsValid()
}
