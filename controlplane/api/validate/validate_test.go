package validate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

const (
	taskDefs = "../../../proto/ecsjson/testdata/taskdefs/"
	minimal  = `"name":"a","image":"nginx","memory":64`
)

const sameNames = `containerDefinitions[1].name: "a" is the name of containerDefinitions[0] too: give each container its own; ` +
	`containerDefinitions[2].name: "a" is the name of containerDefinitions[0] too: give each container its own; ` +
	`containerDefinitions[3].name: "a" is the name of containerDefinitions[0] too: give each container its own; ` +
	`containerDefinitions[4].name: "a" is the name of containerDefinitions[0] too: give each container its own; and 6 more`

func TestTaskDefinition(t *testing.T) {
	one := func(more string) string { return `{"family":"f","containerDefinitions":[{` + minimal + more + `}]}` }
	top := func(more string) string {
		return `{"family":"f","containerDefinitions":[{` + minimal + `}],` + more + `}`
	}
	for _, tc := range []struct{ name, in, want string }{
		{"minimal", one(""), ""},
		{"everything that is honoured", `{"family":"Fam_1-x","networkMode":"bridge","executionRoleArn":"arn","cpu":"1 vCPU","memory":".5GB",
			"requiresCompatibilities":["EC2","EXTERNAL"],"runtimePlatform":{"operatingSystemFamily":"LINUX"},
			"placementConstraints":[{"type":"memberOf","expression":"attribute:a == b"}],"tags":[{"key":"k","value":"v"}],"volumes":[],
			"containerDefinitions":[{"name":"a","image":"registry.plimsoll.internal/a/b:v1@sha256:` + strings.Repeat("a", 64) + `","cpu":10,"memory":64,"memoryReservation":32,"essential":true,
			"entryPoint":["/a"],"command":["b"],"environment":[{"name":"A","value":"="}],"workingDirectory":"/x","user":"1:2","hostname":"h-1",
			"portMappings":[{"containerPort":80,"hostPort":0,"protocol":"tcp","name":"web","appProtocol":"http"},{"containerPort":53,"hostPort":53,"protocol":"udp"},{"containerPort":53,"hostPort":53}],
			"ulimits":[{"name":"nofile","softLimit":1,"hardLimit":-1}],
			"linuxParameters":{"capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]},"tmpfs":[{"containerPath":"/t","size":1,"mountOptions":["rw","mode=755"]}],"sharedMemorySize":64,"initProcessEnabled":false},
			"readonlyRootFilesystem":true,"dockerLabels":{"a":"b"},"stopTimeout":5,"privileged":false,"interactive":false,
			"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"g"}},"mountPoints":[],"systemControls":[],"versionConsistency":"disabled"}]}`, ""},
		{"no family", `{"containerDefinitions":[{` + minimal + `}]}`, "family: required: give a name"},
		{"family", `{"family":"a.b","containerDefinitions":[{` + minimal + `}]}`, `family: "a.b" is not a name: use 1 to 255 letters, digits, hyphens and underscores`},
		{"no container", `{"family":"f"}`, "containerDefinitions: required: give at least one container"},
		{"too many", `{"family":"f","containerDefinitions":[` + strings.TrimSuffix(strings.Repeat(`{`+minimal+`},`, 11), ",") + `]}`, "containerDefinitions: there are 11 containers: at most 10 are allowed; " + sameNames},
		{"same name", `{"family":"f","containerDefinitions":[{` + minimal + `},{` + minimal + `}]}`, `containerDefinitions[1].name: "a" is the name of containerDefinitions[0] too: give each container its own`},
		{"no essential", one(`,"essential":false`), "containerDefinitions: no container is essential: set essential to true on at least one"},
		{"no image", `{"family":"f","containerDefinitions":[{"name":"a","memory":6}]}`, "containerDefinitions[0].image: required: give an image, such as nginx:1.29"},
		{"image", `{"family":"f","containerDefinitions":[{"name":"a","image":"a b","memory":6}]}`, `containerDefinitions[0].image: "a b" is not an image's name (invalid reference format): give [HOST/]REPOSITORY[:TAG][@DIGEST]`},
		{"image in upper case", `{"family":"f","containerDefinitions":[{"name":"a","image":"App:1","memory":6}]}`, `containerDefinitions[0].image: "App:1" is not an image's name (invalid reference format: repository name (library/App) must be lowercase): give [HOST/]REPOSITORY[:TAG][@DIGEST]`},
		{"long image", `{"family":"f","containerDefinitions":[{"name":"a","image":"` + strings.Repeat("a", 256) + `","memory":6}]}`, "containerDefinitions[0].image: it has 256 characters: use at most 255"},
		{"user", one(`,"user":"a:b:c"`), `containerDefinitions[0].user: "a:b:c" is not a user: give USER, UID, USER:GROUP or UID:GID`},
		{"user and group", one(`,"user":"www-data:1000"`), ""},
		{"ulimit without hardLimit", one(`,"ulimits":[{"name":"nofile","softLimit":0}]`), "containerDefinitions[0].ulimits[0].hardLimit: required: give 0 or more, or -1 for none"},
		{"ulimit without softLimit", one(`,"ulimits":[{"name":"nofile"}]`), "containerDefinitions[0].ulimits[0].softLimit: required: give 0 or more, or -1 for none"},
		{"log option", one(`,"logConfiguration":{"logDriver":"json-file","options":{"max-size":"1m","colour":"red"}}`), `containerDefinitions[0].logConfiguration.options: "colour" is not an option of this driver: leave it out, or give one of cache-compress, cache-disabled, cache-max-file, cache-max-size, compress, env, env-regex, labels, labels-regex, max-buffer-size, max-file, max-size, mode, tag`},
		{"no memory", `{"family":"f","containerDefinitions":[{"name":"a","image":"b"}]}`, "containerDefinitions[0].memory: required: give memory or memoryReservation in MiB, or memory for the whole task"},
		{"task memory will do", `{"family":"f","memory":"64","containerDefinitions":[{"name":"a","image":"b"}]}`, ""},
		{"little memory", `{"family":"f","containerDefinitions":[{"name":"a","image":"b","memory":5}]}`, "containerDefinitions[0].memory: 5 MiB is too little: give at least 6"},
		{"reservation above limit", one(`,"memoryReservation":65`), "containerDefinitions[0].memoryReservation: 65 MiB is above memory, 64: the reservation must not be above the limit"},
		{"above the task", top(`"memory":"32"`), "containerDefinitions[0].memory: 64 MiB is above the task's memory, 32; memory: the containers reserve 64 MiB together, and the task has 32: raise it or lower theirs"},
		{"task cpu", top(`"cpu":"half"`), `cpu: "half" is not a CPU size: give units such as "512", or "0.5 vCPU"`},
		{"task cpu range", top(`"cpu":"0.1 vCPU"`), `cpu: "0.1 vCPU" is not a CPU size: give units such as "512", or "0.5 vCPU"`},
		{"task cpu small", top(`"cpu":"64"`), `cpu: "64" is out of range: give 128 to 196608 units`},
		{"containers above task cpu", `{"family":"f","cpu":"128","containerDefinitions":[{` + minimal + `,"cpu":129}]}`, "cpu: the containers reserve 129 CPU units together, and the task has 128: raise it or lower theirs"},
		{"negative cpu", one(`,"cpu":-1`), "containerDefinitions[0].cpu: -1 is out of range: give 0 to 196608 units"},
		{"port", one(`,"portMappings":[{"containerPort":65536}]`), "containerDefinitions[0].portMappings[0].containerPort: 65536 is not a port: give 1 to 65535"},
		{"host port", one(`,"portMappings":[{"containerPort":1,"hostPort":-1}]`), "containerDefinitions[0].portMappings[0].hostPort: -1 is not a port: give 1 to 65535, or 0 for any that is free"},
		{"no container port", one(`,"portMappings":[{"hostPort":1}]`), "containerDefinitions[0].portMappings[0].containerPort: required: give 1 to 65535"},
		{"host port twice", one(`,"portMappings":[{"containerPort":1,"hostPort":80},{"containerPort":2,"hostPort":80}]`), "containerDefinitions[0].portMappings[1].hostPort: 80 is taken by containerDefinitions[0].portMappings[0] already: give another"},
		{"free port twice", one(`,"portMappings":[{"containerPort":1},{"containerPort":2,"hostPort":0}]`), ""},
		{"port range", one(`,"portMappings":[{"containerPortRange":"1-2"}]`), "containerDefinitions[0].portMappings[0].containerPortRange: is not supported yet: give each port a mapping of its own"},
		{"host mode", `{"family":"f","networkMode":"host","containerDefinitions":[{` + minimal + `,"portMappings":[{"containerPort":1,"hostPort":2}]}]}`, "containerDefinitions[0].portMappings[0].hostPort: 2 differs from containerPort 1, and networkMode host maps no ports: leave it out"},
		{"host mode, same port", `{"family":"f","networkMode":"host","containerDefinitions":[{` + minimal + `,"portMappings":[{"containerPort":1},{"containerPort":1}]}]}`, "containerDefinitions[0].portMappings[1].hostPort: 1 is taken by containerDefinitions[0].portMappings[0] already: give another"},
		{"none mode", `{"family":"f","networkMode":"none","containerDefinitions":[{` + minimal + `,"portMappings":[{"containerPort":1}]}]}`, "containerDefinitions[0].portMappings[0]: networkMode none has no network: leave portMappings out"},
		{"port name twice", one(`,"portMappings":[{"containerPort":1,"name":"a"},{"containerPort":2,"name":"a"}]`), `containerDefinitions[0].portMappings[1].name: "a" cannot name a port: use 1 to 64 lower-case letters, digits, _ and -, each name once`},
		{"awsvpc", top(`"networkMode":"awsvpc"`), "networkMode awsvpc: is not supported yet: use bridge or host or none"},
		{"environment", one(`,"environment":[{"value":"v"}]`), `containerDefinitions[0].environment[0].name: "" is not a variable's name: give a name without =`},
		{"NUL", one(`,"command":["a\u0000b"]`), "containerDefinitions[0].command[0]: has a NUL character: leave it out"},
		{"ulimit", one(`,"ulimits":[{"name":"nofile","softLimit":2,"hardLimit":1}]`), "containerDefinitions[0].ulimits[0].softLimit: it is above hardLimit 1: lower it"},
		{"ulimit without name", one(`,"ulimits":[{"softLimit":1,"hardLimit":1}]`), "containerDefinitions[0].ulimits[0].name: required: give a limit's name, such as nofile"},
		{"ulimit twice", one(`,"ulimits":[{"name":"core","softLimit":1,"hardLimit":1},{"name":"core","softLimit":1,"hardLimit":1}]`), "containerDefinitions[0].ulimits[1].name: given twice: give each limit once"},
		{"unlimited soft", one(`,"ulimits":[{"name":"core","softLimit":-1,"hardLimit":1}]`), "containerDefinitions[0].ulimits[0].softLimit: it is above hardLimit 1: lower it"},
		{"capability", one(`,"linuxParameters":{"capabilities":{"add":["CAP_KILL"]}}`), `containerDefinitions[0].linuxParameters.capabilities.add[0]: "CAP_KILL" is not a capability: give ALL or a name without CAP_, such as NET_ADMIN`},
		{"tmpfs", one(`,"linuxParameters":{"tmpfs":[{"containerPath":"t","size":0}]}`), `containerDefinitions[0].linuxParameters.tmpfs[0].containerPath: "t" is not a path to mount on: give an absolute one below /; containerDefinitions[0].linuxParameters.tmpfs[0].size: 0 is out of range: give 1 to 33554432 MiB`},
		{"tmpfs option", one(`,"linuxParameters":{"tmpfs":[{"containerPath":"/t","size":1,"mountOptions":["size=1"]}]}`), `containerDefinitions[0].linuxParameters.tmpfs[0].mountOptions[0]: "size=1" is not an option of tmpfs that ECS knows`},
		{"init process", one(`,"linuxParameters":{"initProcessEnabled":true}`), "containerDefinitions[0].linuxParameters.initProcessEnabled: is not supported yet: leave it out"},
		{"working directory", one(`,"workingDirectory":"x"`), `containerDefinitions[0].workingDirectory: "x" is not absolute: begin it with /`},
		{"hostname", one(`,"hostname":"-x"`), `containerDefinitions[0].hostname: "-x" is not a host name: use 1 to 63 letters, digits, hyphens and dots`},
		{"stop timeout", one(`,"stopTimeout":-1`), "containerDefinitions[0].stopTimeout: -1 is out of range: give 0 to 86400 seconds"},
		{"log driver", one(`,"logConfiguration":{"logDriver":"syslog"}`), "containerDefinitions[0].logConfiguration.logDriver syslog: is not supported yet: use json-file or awslogs"},
		{"no log driver", one(`,"logConfiguration":{"options":{"a":"b"}}`), "containerDefinitions[0].logConfiguration.logDriver: required: give json-file or awslogs"},
		{"tag", top(`"tags":[{"key":"aws:x"}]`), `tags[0].key: "aws:x" begins with aws:, which is kept for the system: give another`},
		{"tag twice", top(`"tags":[{"key":"x"},{"key":"x"}]`), `tags[1].key: "x" is given twice: give each key once`},
		{"constraint", top(`"placementConstraints":[{}]`), "placementConstraints[0].type: required: give memberOf; placementConstraints[0].expression: required: give an expression such as \"attribute:rack == a\""},
		{"fargate", top(`"requiresCompatibilities":["FARGATE"]`), "requiresCompatibilities[0] FARGATE: is not supported yet: use EC2 or EXTERNAL"},
		{"health check", one(`,"healthCheck":{"command":["CMD","x"]}`), "containerDefinitions[0].healthCheck: is not supported yet: leave it out"},
		{"volumes", top(`"volumes":[{"name":"v"}]`), "volumes: is not supported yet: leave volumes and mount points out"},
		{"many problems are bounded", `{"family":"f","containerDefinitions":[{},{},{}]}`, "containerDefinitions[0].name: required: give a name; containerDefinitions[0].image: required: give an image, such as nginx:1.29; containerDefinitions[0].memory: required: give memory or memoryReservation in MiB, or memory for the whole task; containerDefinitions[1].name: required: give a name; containerDefinitions[1].image: required: give an image, such as nginx:1.29; and 4 more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r pb.RegisterTaskDefinitionRequest
			if err := ecsjson.Unmarshal([]byte(tc.in), &r); err != nil {
				t.Fatal(err)
			}
			same(t, TaskDefinition(&r), tc.want)
		})
	}
}

func same(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEveryMemberIsHonouredOrRefused sets every member of each request that
// says what is to run, one at a time, and expects that it has a rule or is
// refused by name.
func TestEveryMemberIsHonouredOrRefused(t *testing.T) {
	for _, tc := range []struct {
		m     proto.Message
		rules rules
		check func(proto.Message) error
	}{
		{&pb.RegisterTaskDefinitionRequest{}, taskDefinitionRules, func(m proto.Message) error { return TaskDefinition(m.(*pb.RegisterTaskDefinitionRequest)) }},
		{&pb.RunTaskRequest{}, runTaskRules, func(m proto.Message) error { return RunTask(m.(*pb.RunTaskRequest)) }},
		{&pb.StartTaskRequest{}, startTaskRules, func(m proto.Message) error { return StartTask(m.(*pb.StartTaskRequest)) }},
		{&pb.CreateServiceRequest{}, createServiceRules, func(m proto.Message) error { return CreateService(m.(*pb.CreateServiceRequest)) }},
		{&pb.UpdateServiceRequest{}, updateServiceRules, func(m proto.Message) error { return UpdateService(m.(*pb.UpdateServiceRequest), false) }},
		{&pb.CreateClusterRequest{}, createClusterRules, func(m proto.Message) error { return CreateCluster(m.(*pb.CreateClusterRequest)) }},
	} {
		used := map[string]bool{}
		members := 0
		each(tc.m.ProtoReflect().Type(), "", nil, func(key string, set func() proto.Message) {
			members++
			rule, known := tc.rules[key]
			used[key] = true
			m := set()
			err := tc.check(m)
			if known && !rule.refused {
				for _, p := range problemsOf(err) {
					if p.Path == key && rule.values == nil && strings.HasPrefix(p.Text, "is not supported yet") {
						t.Errorf("%s has a rule and is refused: %v", key, err)
					}
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || !names(e, key) {
				t.Errorf("%s has no rule and is taken: %v", key, err)
			}
		})
		for key := range tc.rules {
			if !used[key] {
				t.Errorf("%s: there is no member %s", tc.m.ProtoReflect().Descriptor().Name(), key)
			}
		}
		if members < 10 {
			t.Errorf("%s: only %d members were tried", tc.m.ProtoReflect().Descriptor().Name(), members)
		}
	}
}

func problemsOf(err error) []Problem {
	var e *Error
	if errors.As(err, &e) {
		return e.Problems
	}
	return nil
}

// names says whether a refusal names the member or one that it is in.
func names(e *Error, key string) bool {
	for _, p := range e.Problems {
		at := strings.NewReplacer("[0]", "", ".k", "").Replace(p.Path)
		if strings.HasPrefix(p.Text, "is not supported yet") && (at == key || strings.HasPrefix(key, at+".") || strings.HasPrefix(at, key+" ") || strings.HasPrefix(at, key+".")) {
			return true
		}
	}
	return false
}

// each calls f for every member below the message type, with a function that
// makes a request in which that member alone is set.
func each(root protoreflect.MessageType, key string, path []protoreflect.FieldDescriptor, f func(string, func() proto.Message)) {
	md := root.Descriptor()
	if len(path) > 0 {
		md = path[len(path)-1].Message()
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.Name() == "empty_members" {
			f("emptyMembers", func() proto.Message { return root.New().Interface() })
			continue
		}
		here := append(append([]protoreflect.FieldDescriptor(nil), path...), fd)
		k := join(key, fd.JSONName())
		f(k, func() proto.Message {
			m := root.New()
			at := m
			for _, step := range here[:len(here)-1] {
				at = into(at, step)
			}
			fill(at, fd, 0)
			return m.Interface()
		})
		if fd.Message() != nil && !fd.IsMap() {
			each(root, k, here, f)
		}
	}
}

func into(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Message {
	if fd.IsList() {
		return m.Mutable(fd).List().AppendMutable().Message()
	}
	return m.Mutable(fd).Message()
}

// fill sets the member to something that means something.
func fill(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) {
	switch {
	case fd.IsMap():
		m.Mutable(fd).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString("v"))
	case fd.Message() != nil:
		inner := into(m, fd)
		for i := range fd.Message().Fields().Len() {
			if depth < 4 {
				fill(inner, fd.Message().Fields().Get(i), depth+1)
			}
		}
	case fd.IsList():
		m.Mutable(fd).List().Append(something(fd))
	default:
		m.Set(fd, something(fd))
	}
}

func something(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	}
	return protoreflect.ValueOfString("x")
}

// TestPublicTaskDefinitions says of each public file whether it can run here,
// and if not what the first reason is.
func TestPublicTaskDefinitions(t *testing.T) {
	want := map[string]string{
		"03": "networkMode awsvpc", "05": "networkMode awsvpc", "07": "networkMode awsvpc", "09": "networkMode awsvpc",
		"11": "networkMode awsvpc", "13": "taskRoleArn", "15": "taskRoleArn", "17": "taskRoleArn", "19": "taskRoleArn", "21": "taskRoleArn",
		"23": "taskRoleArn", "25": "taskRoleArn", "27": "taskRoleArn", "31": "taskRoleArn",
		"33": "containerDefinitions[0].logConfiguration.logDriver fluentd", "35": "containerDefinitions[0].resourceRequirements", "41": "networkMode awsvpc",
	}
	files, err := filepath.Glob(taskDefs + "[0-9]*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no task definitions: %v", err)
	}
	for _, file := range files {
		number := filepath.Base(file)[:2]
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		def, err := ecsjson.UnmarshalTaskDefinition(data)
		if err != nil {
			continue // not ECS's
		}
		got := ""
		var e *Error
		if errors.As(TaskDefinition(def), &e) {
			got = e.Problems[0].Path
		}
		if got != want[number] {
			t.Errorf("%s: the first problem is at %q, want %q", file, got, want[number])
		}
	}
}

func FuzzTaskDefinition(f *testing.F) {
	files, _ := filepath.Glob(taskDefs + "[0-9]*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		def, err := ecsjson.UnmarshalTaskDefinition(data)
		if err != nil {
			return
		}
		before := proto.CloneOf(def)
		first, again := TaskDefinition(def), TaskDefinition(def)
		if fmt.Sprint(first) != fmt.Sprint(again) {
			t.Fatalf("%v, then %v", first, again)
		}
		if first != nil && strings.Contains(first.Error(), "\n") {
			t.Fatalf("not one line: %q", first)
		}
		if !proto.Equal(before, def) {
			t.Fatal("the request was changed")
		}
	})
}
