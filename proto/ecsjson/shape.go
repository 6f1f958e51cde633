package ecsjson

import (
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

const timestampName protoreflect.FullName = "google.protobuf.Timestamp"

// shape is what JSON sees of a message.
type shape struct {
	fields []protoreflect.FieldDescriptor // in the order of their declaration
	byName map[string]protoreflect.FieldDescriptor
	// cleared is the field that takes the names of lists given as []; nil where
	// an empty list means nothing.
	cleared protoreflect.FieldDescriptor
	// emptyLists says which empty lists are written, by the field's name.
	emptyLists map[protoreflect.Name]bool
}

var shapes sync.Map // protoreflect.FullName -> *shape; derived, never changes

func shapeOf(md protoreflect.MessageDescriptor) *shape {
	if s, ok := shapes.Load(md.FullName()); ok {
		return s.(*shape)
	}
	s := &shape{byName: map[string]protoreflect.FieldDescriptor{}, emptyLists: map[protoreflect.Name]bool{}}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.Name() == "empty_members" {
			s.cleared = fd
			continue
		}
		s.fields = append(s.fields, fd)
		s.byName[fd.JSONName()] = fd
		if fd.IsList() {
			s.emptyLists[fd.Name()] = !inRequests()[md.FullName()] || slices.Contains(alwaysListed[md.Name()], fd.Name())
		}
	}
	shapes.Store(md.FullName(), s)
	return s
}

func (s *shape) names() []string {
	names := make([]string, len(s.fields))
	for i, fd := range s.fields {
		names[i] = fd.JSONName()
	}
	return names
}

// alwaysListed are the lists that ECS answers also when they are empty, in
// shapes that requests have too.
var alwaysListed = map[protoreflect.Name][]protoreflect.Name{
	"ContainerDefinition": {"port_mappings", "environment", "mount_points", "volumes_from", "system_controls"},
	"TaskOverride":        {"container_overrides", "inference_accelerator_overrides"},
}

// inRequests is every message that can occur in a request to EcsService.
var inRequests = sync.OnceValue(func() map[protoreflect.FullName]bool {
	in := map[protoreflect.FullName]bool{}
	var visit func(protoreflect.MessageDescriptor)
	visit = func(md protoreflect.MessageDescriptor) {
		if in[md.FullName()] {
			return
		}
		in[md.FullName()] = true
		for i := range md.Fields().Len() {
			if m := md.Fields().Get(i).Message(); m != nil {
				visit(m)
			}
		}
	}
	methods := pb.File_plimsoll_v1_ecs_proto.Services().ByName("EcsService").Methods()
	for i := range methods.Len() {
		visit(methods.Get(i).Input())
	}
	return in
})

// suggest is the end of an error on an unknown name: the known one that was
// probably meant, or nothing.
func suggest(name string, known []string) string {
	best, least := "", 1+len(name)/3
	for _, k := range known {
		d := distance(strings.ToLower(name), strings.ToLower(k))
		if d == 0 || strings.EqualFold(name+"s", k) {
			best = k
			break
		}
		if d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is how many letters must be put in, taken out, replaced or swapped
// with their neighbour to make b of a. Long names are not looked at.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
