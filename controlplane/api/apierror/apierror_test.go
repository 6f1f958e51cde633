package apierror

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorsCarryTheExceptionAndTheCode(t *testing.T) {
	for _, tc := range []struct {
		err       error
		exception Exception
		code      codes.Code
	}{
		{New(ClusterNotFound, "Cluster %q not found.", "x"), ClusterNotFound, codes.NotFound},
		{New(InvalidParameter, "x"), InvalidParameter, codes.InvalidArgument},
		{New(ServiceNotActive, "x"), ServiceNotActive, codes.FailedPrecondition},
		{New(LimitExceeded, "x"), LimitExceeded, codes.ResourceExhausted},
		{New(UnsupportedFeature, "x"), UnsupportedFeature, codes.Unimplemented},
		{New(AccessDenied, "x"), AccessDenied, codes.PermissionDenied},
		{New(Server, "x"), Server, codes.Internal},
		{Unavailable("x"), Server, codes.Unavailable},
		{status.Error(codes.NotFound, "x"), Client, codes.NotFound},
		{status.Error(codes.Unauthenticated, "x"), AccessDenied, codes.Unauthenticated},
		{errors.New("x"), Server, codes.Unknown},
		{nil, "", codes.OK},
	} {
		if got := Of(tc.err); got != tc.exception {
			t.Errorf("%v: exception %s, want %s", tc.err, got, tc.exception)
		}
		if got := status.Code(tc.err); got != tc.code {
			t.Errorf("%v: code %v, want %v", tc.err, got, tc.code)
		}
	}
}
