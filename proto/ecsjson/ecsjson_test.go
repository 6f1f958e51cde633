package ecsjson

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// notECS are public files that ECS would refuse, with our reason.
var notECS = map[string]string{
	"29-wordpress-microservices-wordpress-task-definition.json": "containerDefinitions[0].networkMode: unknown member\n" +
		`containerDefinitions[0].restartPolicy: expected an object, got "always"`,
}

func TestPublicTaskDefinitionsKeepEverythingOverARoundTrip(t *testing.T) {
	files, err := filepath.Glob("testdata/taskdefs/[0-9]*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no task definitions: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data := read(t, file)
			def, err := UnmarshalTaskDefinition(data)
			if want, wrong := notECS[filepath.Base(file)]; wrong {
				if err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			out, err := Marshal(def, Options{Indent: "  "})
			if err != nil {
				t.Fatal(err)
			}
			again := &pb.RegisterTaskDefinitionRequest{}
			if err := Unmarshal(out, again); err != nil {
				t.Fatalf("read what was written: %v\n%s", err, out)
			}
			if diff := cmp.Diff(def, again, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			golden := strings.Replace(file, "taskdefs", "golden", 1)
			if *update {
				if err := os.MkdirAll("testdata/golden", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, out, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, golden)), string(out)); diff != "" {
				t.Errorf("-golden +got (run with -update if that is meant):\n%s", diff)
			}
			if diff := cmp.Diff(tidied(t, data), tidied(t, out)); diff != "" {
				t.Errorf("-file +written:\n%s", diff)
			}
		})
	}
}

// tidied is a JSON document without what means nothing: empty lists, nulls,
// zeros, and the read-only members.
func tidied(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var tidy func(any) any
	tidy = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, item := range v {
				item = tidy(item)
				list, isList := item.([]any)
				f, isNumber := item.(float64)
				if item == nil || isList && len(list) == 0 || isNumber && f == 0 && k == "cpu" || readOnly[k] {
					delete(v, k)
				} else {
					v[k] = item
				}
				if s, ok := item.(string); ok && s == "" {
					delete(v, k)
				}
				if isNumber && f != 0 && (k == "cpu" || k == "memory") && v["containerDefinitions"] != nil {
					v[k] = json.Number(strings.TrimSpace(string(mustJSON(f)))).String()
				}
			}
		case []any:
			for i := range v {
				v[i] = tidy(v[i])
			}
		}
		return v
	}
	return tidy(v)
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestUnmarshalSaysWhereAndWhat(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"unknown member", `{"containerDefinitions":[{"memry":1}]}`, "containerDefinitions[0].memry: unknown member; did you mean memory?"},
		{"upper case", `{"Family":"a"}`, "Family: unknown member; did you mean family?"},
		{"singular", `{"containerDefinition":[]}`, "containerDefinition: unknown member; did you mean containerDefinitions?"},
		{"swapped letters", `{"volumse":[]}`, "volumse: unknown member; did you mean volumes?"},
		{"nothing like it", `{"zzzzzzzz":1}`, "zzzzzzzz: unknown member"},
		{"number for text", `{"family":1}`, "family: expected a string, got the number 1"},
		{"text for number", `{"containerDefinitions":[{"memory":"512"}]}`, `containerDefinitions[0].memory: expected an integer of 32 bits, got "512"`},
		{"fraction for integer", `{"containerDefinitions":[{"cpu":1.5}]}`, "containerDefinitions[0].cpu: expected an integer of 32 bits, got the number 1.5"},
		{"too large", `{"containerDefinitions":[{"cpu":4294967296}]}`, "containerDefinitions[0].cpu: expected an integer of 32 bits, got the number 4294967296"},
		{"object for list", `{"containerDefinitions":{}}`, "containerDefinitions: expected a list, got an object"},
		{"list for object", `{"containerDefinitions":[[]]}`, "containerDefinitions[0]: expected an object, got a list"},
		{"null in a list", `{"containerDefinitions":[null]}`, "containerDefinitions[0]: expected an object, got null"},
		{"unknown enum value", `{"networkMode":"BRIDGE"}`, `networkMode: expected one of bridge, host, awsvpc, none, got "BRIDGE"`},
		{"map of texts", `{"containerDefinitions":[{"dockerLabels":{"a":1}}]}`, "containerDefinitions[0].dockerLabels.a: expected a string, got the number 1"},
		{"two errors", `{"famly":"x","cpu":true}`, "famly: unknown member; did you mean family?\ncpu: expected a string, got true"},
		{"syntax", "{\n\"family\": }", "line 2: invalid character '}'"},
		{"cut off", `{"family":`, "line 1: unexpected EOF"},
		{"twice", `{"family":"a","family":"b"}`, `line 1: member "family" is given twice`},
		{"more", `{} {}`, "line 1: there is more after the first JSON value"},
		{"not an object", `[]`, "expected an object, got a list"},
		{"nested", strings.Repeat(`{"a":`, 40), "line 1: nested deeper than 32"},
		{"not text", "{\"family\":\"\xff\"}", "the document is not UTF-8 text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Unmarshal([]byte(tc.in), &pb.RegisterTaskDefinitionRequest{})
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestUnmarshalBoundsItsErrors(t *testing.T) {
	err := Unmarshal([]byte(`{"placementConstraints":[`+strings.Repeat("1,", 40)+"1]}"), &pb.RegisterTaskDefinitionRequest{})
	if err == nil || !strings.HasSuffix(err.Error(), "\nand 31 more") {
		t.Errorf("got %v", err)
	}
}

func TestUnmarshalTakesNumbersForTaskSizes(t *testing.T) {
	var r pb.RegisterTaskDefinitionRequest
	if err := Unmarshal([]byte(`{"cpu":256,"memory":512,"family":null}`), &r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&pb.RegisterTaskDefinitionRequest{Cpu: "256", Memory: "512"}, &r, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestUpdateServiceKeepsListsGivenAsEmpty(t *testing.T) {
	var r pb.UpdateServiceRequest
	if err := Unmarshal([]byte(`{"service":"web","placementStrategy":[],"loadBalancers":null}`), &r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"placementStrategy"}, r.GetEmptyMembers()); diff != "" {
		t.Error(diff)
	}
	out, err := Marshal(&r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"service":"web","placementStrategy":[],"forceNewDeployment":false}`; string(out) != want {
		t.Errorf("got %s, want %s", out, want)
	}
	if err := Unmarshal([]byte(`{"emptyMembers":["a"]}`), &r); err == nil {
		t.Error("emptyMembers is not a member of ECS's and was taken")
	}
}

func TestTaskDefinitionFileMayBeADescription(t *testing.T) {
	const inner = `"family":"web","revision":3,"status":"ACTIVE","taskDefinitionArn":"arn","registeredAt":1.5,
		"registeredBy":"me","compatibilities":["EC2"],"requiresAttributes":[{"name":"x"}],"volumes":[]`
	want := &pb.RegisterTaskDefinitionRequest{Family: "web", Tags: []*pb.Tag{{Key: "k", Value: "v"}}}
	for _, in := range []string{
		`{"taskDefinition":{` + inner + `},"tags":[{"key":"k","value":"v"}]}`,
		`{` + inner + `,"tags":[{"key":"k","value":"v"}]}`,
	} {
		got, err := UnmarshalTaskDefinition([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	for in, want := range map[string]string{
		`{"taskDefinition":1}`:                     "taskDefinition: expected an object, got the number 1",
		`{"taskDefinition":{},"other":1}`:          "other: unknown member beside taskDefinition",
		`{"taskDefinition":{"tags":[]},"tags":[]}`: "taskDefinition.tags: given beside taskDefinition too: give tags once",
	} {
		if _, err := UnmarshalTaskDefinition([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", in, err, want)
		}
	}
}

func TestMarshalWritesWhatECSWrites(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC))
	for _, tc := range []struct {
		name string
		in   proto.Message
		opts Options
		want string
	}{
		{"empty list answer", &pb.ListTasksResponse{}, Options{}, `{"taskArns":[]}`},
		{"zeros, no empty texts", &pb.Deployment{Id: "d", CreatedAt: at}, Options{},
			`{"id":"d","desiredCount":0,"pendingCount":0,"runningCount":0,"failedTasks":0,"createdAt":"2026-01-02T03:04:05.678Z","capacityProviderStrategy":[],"serviceConnectResources":[],"volumeConfigurations":[],"vpcLatticeConfigurations":[]}`},
		{"epoch", &pb.ServiceEvent{CreatedAt: at, Message: "a <b>"}, Options{Time: EpochSeconds}, `{"createdAt":1767323045.678,"message":"a <b>"}`},
		{"optional scalars", &pb.NetworkBinding{HostPort: proto.Int32(0), Protocol: pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP}, Options{}, `{"hostPort":0,"protocol":"udp"}`},
		{"integers and floats", &pb.Resource{Name: "CPU", LongValue: 1 << 60}, Options{}, `{"name":"CPU","doubleValue":0.0,"longValue":1152921504606846976,"integerValue":0,"stringSetValue":[]}`},
		{"maps are sorted", &pb.DockerVolumeConfiguration{Labels: map[string]string{"b": "2", "a": "1"}}, Options{}, `{"labels":{"a":"1","b":"2"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Marshal(tc.in, tc.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := Marshal(&pb.Task{LaunchType: 99}, Options{}); err == nil {
		t.Error("an enum value that does not exist was written")
	}
}

func TestTimesAreReadInBothForms(t *testing.T) {
	for in, want := range map[string]time.Time{
		`"2026-01-02T03:04:05.678+01:00"`: time.Date(2026, 1, 2, 2, 4, 5, 678e6, time.UTC),
		`1767323045.678`:                  time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		`-1`:                              time.Unix(-1, 0).UTC(),
	} {
		var e pb.ServiceEvent
		if err := Unmarshal([]byte(`{"createdAt":`+in+`}`), &e); err != nil {
			t.Error(err)
		} else if got := e.GetCreatedAt().AsTime(); !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
	for _, in := range []string{`"yesterday"`, `1e300`, `1e12`, `true`} {
		if err := Unmarshal([]byte(`{"createdAt":`+in+`}`), &pb.ServiceEvent{}); err == nil {
			t.Errorf("%s was taken as a time", in)
		}
	}
}

func TestEveryEnumValueIsFoundByItsSpelling(t *testing.T) {
	protoregistry.GlobalTypes.RangeEnums(func(et protoreflect.EnumType) bool {
		if !strings.HasPrefix(string(et.Descriptor().FullName()), "plimsoll.v1.") {
			return true
		}
		values := et.Descriptor().Values()
		seen := map[string]bool{}
		for i := range values.Len() {
			s := wire(values.Get(i))
			if (s == "") != (values.Get(i).Number() == 0) || seen[s] {
				t.Errorf("%s is spelled %q", values.Get(i).FullName(), s)
			}
			seen[s] = true
			if n, ok := parseEnum(et.Descriptor(), s); s != "" && (!ok || n != values.Get(i).Number()) {
				t.Errorf("%q is not found in %s", s, et.Descriptor().FullName())
			}
		}
		return true
	})
	if got, ok := ParseEnum[pb.NetworkMode]("awsvpc"); !ok || Wire(got) != "awsvpc" {
		t.Errorf("awsvpc is %v", got)
	}
	if Wire(pb.OSFamily_OS_FAMILY_LINUX) != "LINUX" || Wire(pb.OSFamily(77)) != "" {
		t.Error("wrong spelling")
	}
}

func FuzzUnmarshalTaskDefinition(f *testing.F) {
	files, _ := filepath.Glob("testdata/taskdefs/[0-9]*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"taskDefinition":{"registeredAt":1e9},"tags":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		def, err := UnmarshalTaskDefinition(data)
		if err != nil {
			return
		}
		out, err := Marshal(def, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(out, []byte("\n")) {
			t.Fatalf("not one line: %q", out)
		}
		again, err := UnmarshalTaskDefinition(out)
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if !proto.Equal(def, again) {
			t.Fatal(cmp.Diff(def, again, protocmp.Transform()))
		}
	})
}
