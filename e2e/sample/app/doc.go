// Command app is the sample web server in the sample image. It says who it is
// and breaks on request:
//
//	/              task, host and version, as text (as JSON with ?format=json)
//	/healthz       200 "ok"
//	/env           the environment, one variable a line
//	/slow?ms=N     answers after N milliseconds
//	/leak?mib=N    keeps N MiB more of memory
//	/crash?code=N  ends the process with the exit code N (1 if not given)
//
// It prints a line for each request, and ends with 0 on SIGTERM once the requests
// under way are answered. Its flags make it misbehave from the start; see -help.
//
// It owns no state but what /leak keeps, and uses the standard library alone.
package main
