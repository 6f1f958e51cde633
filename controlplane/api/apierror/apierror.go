package apierror

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain is the ErrorInfo's domain.
const Domain = "ecs.amazonaws.com"

// Exception is the name of one of ECS's exceptions.
type Exception string

// The exceptions in use.
const (
	Client                            Exception = "ClientException"
	InvalidParameter                  Exception = "InvalidParameterException"
	ClusterNotFound                   Exception = "ClusterNotFoundException"
	ServiceNotFound                   Exception = "ServiceNotFoundException"
	ServiceNotActive                  Exception = "ServiceNotActiveException"
	ResourceNotFound                  Exception = "ResourceNotFoundException"
	TargetNotFound                    Exception = "TargetNotFoundException"
	ClusterContainsServices           Exception = "ClusterContainsServicesException"
	ClusterContainsTasks              Exception = "ClusterContainsTasksException"
	ClusterContainsContainerInstances Exception = "ClusterContainsContainerInstancesException"
	AttributeLimitExceeded            Exception = "AttributeLimitExceededException"
	LimitExceeded                     Exception = "LimitExceededException"
	Conflict                          Exception = "ConflictException"
	UnsupportedFeature                Exception = "UnsupportedFeatureException"
	AccessDenied                      Exception = "AccessDeniedException"
	Server                            Exception = "ServerException"
)

// Code is the gRPC code that goes with the exception; Internal for one that is
// not known. Unavailable gives a ServerException the code Unavailable.
func (e Exception) Code() codes.Code {
	switch e {
	case Client, InvalidParameter:
		return codes.InvalidArgument
	case ClusterNotFound, ServiceNotFound, ResourceNotFound, TargetNotFound:
		return codes.NotFound
	case ServiceNotActive, ClusterContainsServices, ClusterContainsTasks, ClusterContainsContainerInstances, Conflict:
		return codes.FailedPrecondition
	case AttributeLimitExceeded, LimitExceeded:
		return codes.ResourceExhausted
	case UnsupportedFeature:
		return codes.Unimplemented
	case AccessDenied:
		return codes.PermissionDenied
	}
	return codes.Internal
}

// New is an error with the exception. The message is one line that says what is
// wrong and what to do.
func New(e Exception, format string, args ...any) error {
	return with(e.Code(), e, format, args...)
}

// Unavailable is a ServerException that is worth a retry: nothing was done, or
// it is not known whether it was.
func Unavailable(format string, args ...any) error {
	return with(codes.Unavailable, Server, format, args...)
}

func with(c codes.Code, e Exception, format string, args ...any) error {
	s := status.New(c, fmt.Sprintf(format, args...))
	detailed, err := s.WithDetails(&errdetails.ErrorInfo{Reason: string(e), Domain: Domain})
	if err != nil {
		return s.Err()
	}
	return detailed.Err()
}

// Of is the exception that an error carries; without one, what its gRPC code
// stands for: a ClientException for the caller's faults, else a
// ServerException. It is empty for nil.
func Of(err error) Exception {
	if err == nil {
		return ""
	}
	s, _ := status.FromError(err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return Exception(info.GetReason())
		}
	}
	switch s.Code() {
	case codes.PermissionDenied, codes.Unauthenticated:
		return AccessDenied
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange, codes.ResourceExhausted:
		return Client
	}
	return Server
}
