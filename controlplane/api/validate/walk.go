package validate

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
)

// rule says what of a member is honoured.
type rule struct {
	// values are the spellings that are honoured; nil is every value.
	values []string
	// why is added to the refusal: what to do instead.
	why string
	// refused members have a rule only for its why.
	refused bool
}

// rules are by the member's path without list indexes; a message member is
// honoured as far as its own members are.
type rules map[string]rule

// honoured adds what is set and not honoured, and text that no host could use.
func (p *problems) honoured(m proto.Message, r rules) { p.walk("", "", m.ProtoReflect(), r) }

func (p *problems) walk(path, key string, m protoreflect.Message, r rules) {
	for _, fd := range sorted(m) {
		v := m.Get(fd)
		at, k := join(path, fd.JSONName()), join(key, fd.JSONName())
		rule, known := r[k]
		if !known || rule.refused {
			if !inert(v, fd) {
				p.refuse(at, rule)
			}
			continue
		}
		switch {
		case fd.IsList():
			for i := range v.List().Len() {
				p.value(fmt.Sprintf("%s[%d]", at, i), k, v.List().Get(i), fd, r)
			}
		case fd.IsMap():
			v.Map().Range(func(name protoreflect.MapKey, item protoreflect.Value) bool {
				p.text(at, name.String())
				p.value(at+"."+name.String(), k, item, fd.MapValue(), r)
				return true
			})
		default:
			p.value(at, k, v, fd, r)
		}
	}
}

func (p *problems) value(at, k string, v protoreflect.Value, fd protoreflect.FieldDescriptor, r rules) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		p.walk(at, k, v.Message(), r)
	case protoreflect.StringKind:
		p.text(at, v.String())
		if values := r[k].values; values != nil && !slices.Contains(values, v.String()) {
			p.refuse(fmt.Sprintf("%s is %s", at, quote(v.String())), r[k])
		}
	case protoreflect.EnumKind:
		ev := fd.Enum().Values().ByNumber(v.Enum())
		if ev == nil {
			p.add(at, "there is no value %d: use one of %s", v.Enum(), strings.Join(ecsjson.Spellings(fd.Enum()), ", "))
			return
		}
		if values := r[k].values; values != nil && v.Enum() != 0 && !slices.Contains(values, spelling(fd, v)) {
			p.refuse(at+" "+spelling(fd, v), r[k])
		}
	}
}

func (p *problems) text(at, s string) {
	if strings.ContainsRune(s, 0) {
		p.add(at, "has a NUL character: leave it out")
	}
}

func (p *problems) refuse(at string, r rule) {
	text := "is not supported yet"
	if len(r.values) > 0 {
		text += ": use " + strings.Join(r.values, " or ")
	} else if r.why == "" {
		text += ": leave it out"
	}
	if r.why != "" {
		text += ": " + r.why
	}
	p.add(at, "%s", text)
}

// inert says whether the value changes nothing: an empty list or message,
// false, zero, an empty text.
func inert(v protoreflect.Value, fd protoreflect.FieldDescriptor) bool {
	switch {
	case fd.IsList():
		return v.List().Len() == 0
	case fd.IsMap():
		return v.Map().Len() == 0
	}
	switch fd.Kind() {
	case protoreflect.MessageKind:
		for _, f := range sorted(v.Message()) {
			if !inert(v.Message().Get(f), f) {
				return false
			}
		}
		return true
	case protoreflect.BoolKind:
		return !v.Bool()
	case protoreflect.StringKind:
		return v.String() == ""
	case protoreflect.EnumKind:
		return v.Enum() == 0
	case protoreflect.DoubleKind:
		return v.Float() == 0
	}
	return v.Int() == 0
}

// sorted is the message's members that are set, in the order of declaration.
func sorted(m protoreflect.Message) []protoreflect.FieldDescriptor {
	var fds []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fds = append(fds, fd)
		return true
	})
	sort.Slice(fds, func(i, j int) bool { return fds[i].Index() < fds[j].Index() })
	return fds
}

func spelling(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	return ecsjson.Spelling(fd.Enum().Values().ByNumber(v.Enum()))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
