// published: what others publish and Golive must fit, from their own modules, in one program for tests:
// Helm; kstatus; the expressions of Flux's health checks; the Lua interpreter of Argo CD with the
// libraries that Argo CD opens. Results are JSON on standard output.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// command does one thing and returns what is printed as JSON.
type command func(args []string) (any, error)

var commands = map[string]command{
	"helm":   helm,
	"judge":  judge,
	"script": script,
}

func main() {
	result, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "published:", err)
		os.Exit(1)
	}
}

func run(args []string) (any, error) {
	if len(args) == 0 || commands[args[0]] == nil {
		return nil, errors.New("the first argument is helm, judge or script")
	}
	return commands[args[0]](args[1:])
}
