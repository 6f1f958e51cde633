package ecsjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TimeFormat says how timestamps are written.
type TimeFormat int

// The formats of timestamps.
const (
	// RFC3339 writes "2026-01-02T15:04:05.678Z", in UTC.
	RFC3339 TimeFormat = iota
	// EpochSeconds writes seconds since 1970 as a number, with milliseconds, as
	// the AWS wire protocol does.
	EpochSeconds
)

// Options say how to write.
type Options struct {
	Time TimeFormat
	// Indent is what each level is indented by; empty writes one line.
	Indent string
}

// Marshal writes m as ECS's JSON. It fails on numbers that JSON or the enum
// has not.
func Marshal(m proto.Message, o Options) ([]byte, error) {
	e := encoder{time: o.Time}
	if err := e.message(m.ProtoReflect()); err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if o.Indent == "" {
		return e.out.Bytes(), nil
	}
	var out bytes.Buffer
	if err := json.Indent(&out, e.out.Bytes(), "", o.Indent); err != nil {
		return nil, fmt.Errorf("indent %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return out.Bytes(), nil
}

type encoder struct {
	out  bytes.Buffer
	time TimeFormat
}

func (e *encoder) message(m protoreflect.Message) error {
	shape := shapeOf(m.Descriptor())
	e.out.WriteByte('{')
	first := true
	for _, fd := range shape.fields {
		if !written(m, fd, shape) {
			continue
		}
		if !first {
			e.out.WriteByte(',')
		}
		first = false
		e.out.WriteString(strconv.Quote(fd.JSONName()) + ":")
		if err := e.field(m.Get(fd), fd); err != nil {
			return fmt.Errorf("%s: %w", fd.JSONName(), err)
		}
	}
	e.out.WriteByte('}')
	return nil
}

// written says whether the member appears.
func written(m protoreflect.Message, fd protoreflect.FieldDescriptor, s *shape) bool {
	switch {
	case fd.IsList() && m.Get(fd).List().Len() == 0:
		return s.emptyLists[fd.Name()] || cleared(m, fd, s)
	case fd.IsMap() || fd.HasPresence() || m.Has(fd):
		return m.Has(fd)
	}
	return fd.Kind() != protoreflect.StringKind && fd.Kind() != protoreflect.EnumKind && fd.Kind() != protoreflect.BytesKind
}

// cleared says whether the message carries that the list was given as [].
func cleared(m protoreflect.Message, fd protoreflect.FieldDescriptor, s *shape) bool {
	if s.cleared == nil {
		return false
	}
	names := m.Get(s.cleared).List()
	for i := range names.Len() {
		if names.Get(i).String() == fd.JSONName() {
			return true
		}
	}
	return false
}

func (e *encoder) field(v protoreflect.Value, fd protoreflect.FieldDescriptor) error {
	switch {
	case fd.IsMap():
		return e.mapping(v.Map(), fd)
	case fd.IsList():
		e.out.WriteByte('[')
		for i := range v.List().Len() {
			if i > 0 {
				e.out.WriteByte(',')
			}
			if err := e.scalar(v.List().Get(i), fd); err != nil {
				return err
			}
		}
		e.out.WriteByte(']')
		return nil
	}
	return e.scalar(v, fd)
}

func (e *encoder) mapping(m protoreflect.Map, fd protoreflect.FieldDescriptor) error {
	var keys []string
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	e.out.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			e.out.WriteByte(',')
		}
		if err := e.text(k); err != nil {
			return err
		}
		e.out.WriteByte(':')
		if err := e.scalar(m.Get(protoreflect.ValueOfString(k).MapKey()), fd.MapValue()); err != nil {
			return err
		}
	}
	e.out.WriteByte('}')
	return nil
}

func (e *encoder) scalar(v protoreflect.Value, fd protoreflect.FieldDescriptor) error {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		if fd.Message().FullName() == timestampName {
			return e.timestamp(v.Message())
		}
		return e.message(v.Message())
	case protoreflect.StringKind:
		return e.text(v.String())
	case protoreflect.BoolKind:
		e.out.WriteString(strconv.FormatBool(v.Bool()))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		e.out.WriteString(strconv.FormatInt(v.Int(), 10))
	case protoreflect.DoubleKind:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			return fmt.Errorf("%v is no JSON number", v.Float())
		}
		s := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		e.out.WriteString(s)
	case protoreflect.EnumKind:
		ev := fd.Enum().Values().ByNumber(v.Enum())
		if ev == nil {
			return fmt.Errorf("%s has no value %d", fd.Enum().Name(), v.Enum())
		}
		return e.text(wire(ev))
	default:
		return fmt.Errorf("kind %v is not part of ECS's shapes", fd.Kind())
	}
	return nil
}

func (e *encoder) timestamp(m protoreflect.Message) error {
	fields := m.Descriptor().Fields()
	t := time.Unix(m.Get(fields.ByName("seconds")).Int(), m.Get(fields.ByName("nanos")).Int()).UTC()
	if e.time == EpochSeconds {
		ms := t.UnixMilli()
		s := strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64)
		e.out.WriteString(s)
		return nil
	}
	return e.text(t.Format(time.RFC3339Nano))
}

// text writes a string; HTML is not escaped.
func (e *encoder) text(s string) error {
	enc := json.NewEncoder(&e.out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return err
	}
	e.out.Truncate(e.out.Len() - 1) // Encode's newline
	return nil
}
