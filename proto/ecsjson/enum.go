package ecsjson

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Wire is ECS's spelling of an enum's value, empty for the unset value and for
// a number that the enum does not have.
func Wire(e protoreflect.Enum) string {
	return wire(e.Descriptor().Values().ByNumber(e.Number()))
}

// Spelling is ECS's spelling of an enum's value, empty for the unset value and
// for nil.
func Spelling(v protoreflect.EnumValueDescriptor) string { return wire(v) }

// Spellings lists how ECS spells the enum's values, in their order, without the
// unset one.
func Spellings(e protoreflect.EnumDescriptor) []string {
	var all []string
	for i := range e.Values().Len() {
		if s := wire(e.Values().Get(i)); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// ParseEnum finds the value of E that ECS spells so. Spelling is exact.
func ParseEnum[E protoreflect.Enum](s string) (E, bool) {
	var zero E
	n, ok := parseEnum(zero.Descriptor(), s)
	if !ok {
		return zero, false
	}
	return zero.Type().New(n).(E), true
}

func parseEnum(e protoreflect.EnumDescriptor, s string) (protoreflect.EnumNumber, bool) {
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); s != "" && wire(v) == s {
			return v.Number(), true
		}
	}
	return 0, false
}

func wire(v protoreflect.EnumValueDescriptor) string {
	if v == nil || v.Number() == 0 {
		return ""
	}
	if s, ok := proto.GetExtension(v.Options(), pb.E_Wire).(string); ok && s != "" {
		return s
	}
	return strings.TrimPrefix(string(v.Name()), prefix(v.Parent().(protoreflect.EnumDescriptor)))
}

// prefix is what an enum's value names begin with: NETWORK_MODE_ of
// NETWORK_MODE_UNSPECIFIED.
func prefix(e protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(e.Values().ByNumber(0).Name()), "UNSPECIFIED")
}
