package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// luaLimit is that of Argo CD.
const luaLimit = time.Second

// script runs a script of Argo CD on each object from standard input and returns what it returned:
// script --file FILE.
func script(args []string) (any, error) {
	flags := flag.NewFlagSet("script", flag.ContinueOnError)
	path := flags.String("file", "", "action.lua or discovery.lua")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(*path)
	if err != nil {
		return nil, err
	}
	objects, err := objects()
	if err != nil {
		return nil, err
	}
	results := []json.RawMessage{}
	for _, object := range objects {
		result, err := runLua(object.Object, string(text))
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

// runLua runs a script with the interpreter of Argo CD and the libraries that it opens for scripts from
// its configuration (argoproj/argo-cd, util/lua/lua.go, runLua with UseOpenLibs false): package, base,
// table, and of os what tells the time.
func runLua(object map[string]any, script string) (json.RawMessage, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		call := lua.P{Fn: state.NewFunction(open), Protect: true}
		if err := state.CallByParam(call, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	state.PreloadModule(lua.OsLibName, safeOs)
	ctx, cancel := context.WithTimeout(context.Background(), luaLimit)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, errors.New("the script returned no table, but " + returned.Type().String())
	}
	text, err := luajson.Encode(returned)
	return text, err
}

// safeOs is the module `os` with `time` and `date` alone (argoproj/argo-cd, util/lua/oslib_safe.go).
func safeOs(state *lua.LState) int {
	module := state.SetFuncs(state.NewTable(), map[string]lua.LGFunction{
		"time": func(state *lua.LState) int {
			state.Push(lua.LNumber(time.Now().Unix()))
			return 1
		},
		"date": func(state *lua.LState) int {
			state.Push(lua.LString(time.Now().UTC().Format(time.RFC3339)))
			return 1
		},
	})
	state.Push(module)
	return 1
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch converted := value.(type) {
	case bool:
		return lua.LBool(converted)
	case float64:
		return lua.LNumber(converted)
	case int64:
		return lua.LNumber(converted)
	case string:
		return lua.LString(converted)
	case []any:
		list := state.CreateTable(len(converted), 0)
		for _, item := range converted {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(converted))
		for key, item := range converted {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}
