package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/workflow"
)

// What a workflow is started with: the order, and what the addresses of its
// steps are asked for beside.
type flowInput struct {
	order
	Pay  string `json:"pay,omitempty"`
	Ship string `json:"ship,omitempty"`
	Fail string `json:"fail,omitempty"` // the local step or the XA step is refused
}

func (in flowInput) at(path, more string) string {
	if more != "" {
		return rm + path + "?" + more
	}
	return rm + path
}

// After step n of the workflow, if this process was told so.
func step(wf *workflow.Workflow, n int) {
	if stopAfter == n {
		stopDead(fmt.Sprintf("%s after step %d", wf.Gid, n))
	}
}

// A local step, written down as the services write down their calls.
func local(wf *workflow.Workflow, path string, o order, refuse bool) ([]byte, error) {
	return wf.Do(func(bb *dtmcli.BranchBarrier) ([]byte, error) {
		return []byte("local " + path), callLocal(bb, path, o, refuse)
	})
}

func callLocal(bb *dtmcli.BranchBarrier, path string, o order, refuse bool) error {
	seq, _, err := logCall(bbQuery(bb), "local:"+path, "")
	if err == nil {
		err = bb.CallWithDB(effects[path].db(), func(tx *sql.Tx) error {
			if refuse {
				return fmt.Errorf("not today %w", dtmcli.ErrFailure)
			}
			return apply(tx, path, o, bb.Gid)
		})
	}
	_, _ = callLog.Exec("UPDATE call_log SET done_at = clock_timestamp() WHERE seq = $1", seq)
	return err
}

func bbQuery(bb *dtmcli.BranchBarrier) url.Values {
	return url.Values{"gid": {bb.Gid}, "branch_id": {bb.BranchID}, "op": {bb.Op}}
}

// A call of another service in phase 2.
func phase2(wf *workflow.Workflow, path string, in flowInput) workflow.WfPhase2Func {
	return func(*dtmcli.BranchBarrier) error {
		resp, err := wf.NewRequest().SetBody(in.order).Post(rm + path)
		if err == nil && resp.StatusCode() != http.StatusOK {
			err = fmt.Errorf("%s: %s", path, resp)
		}
		return err
	}
}

// XA on the bank's database: the points.
func pointsByXa(wf *workflow.Workflow, in flowInput) ([]byte, error) {
	return wf.NewBranch().DoXa(bankConf, func(db *sql.DB) ([]byte, error) {
		_, _, err := logCall(url.Values{"gid": {wf.Gid}, "branch_id": {wf.BranchID}, "op": {"action"}}, "xa:/points/add", "")
		if err == nil && in.Fail == "xa" {
			err = fmt.Errorf("no points %w", dtmcli.ErrFailure)
		}
		if err == nil {
			err = apply(db, "/points/add", in.order, wf.Gid)
		}
		return []byte("points"), err
	})
}

func registerWorkflows(callback string) {
	workflow.InitHTTP(dtm, callback)

	// stock (local, 01), payment (HTTP, 02), shipping (HTTP, 03), points (XA, 04)
	check(workflow.Register2("order", func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		var in flowInput
		if err := json.Unmarshal(data, &in); err != nil {
			return nil, err
		}
		wf.NewBranch().OnRollback(func(bb *dtmcli.BranchBarrier) error {
			return callLocal(bb, "/stock/return", in.order, false)
		})
		done, err := local(wf, "/stock/deduct", in.order, in.Fail == "local")
		if err != nil {
			return nil, err
		}
		step(wf, 1)
		paid, err := wf.NewBranch().OnRollback(phase2(wf, "/account/refund", in)).
			NewRequest().SetBody(in.order).Post(in.at("/account/pay", in.Pay))
		if err != nil {
			return nil, err
		}
		step(wf, 2)
		shipped, err := wf.NewBranch().OnRollback(phase2(wf, "/ship/cancel", in)).
			NewRequest().SetBody(in.order).Post(in.at("/ship/book", in.Ship))
		if err != nil {
			return nil, err
		}
		step(wf, 3)
		points, err := pointsByXa(wf, in)
		if err != nil {
			return nil, err
		}
		step(wf, 4)
		return []byte(strings.Join([]string{string(done), paid.String(), shipped.String(), string(points)}, ", ")), nil
	}))

	// all kinds of branches: stock (local, 01), the shipping as a saga's branch
	// (02), the account by try and confirm (03), points (XA, 04)
	check(workflow.Register2("mixed", func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		var in flowInput
		if err := json.Unmarshal(data, &in); err != nil {
			return nil, err
		}
		wf.NewBranch().OnRollback(func(bb *dtmcli.BranchBarrier) error {
			return callLocal(bb, "/stock/return", in.order, false)
		})
		if _, err := local(wf, "/stock/deduct", in.order, in.Fail == "local"); err != nil {
			return nil, err
		}
		if _, err := wf.NewBranch().OnRollback(phase2(wf, "/ship/cancel", in)).
			NewRequest().SetBody(in.order).Post(in.at("/ship/book", in.Ship)); err != nil {
			return nil, err
		}
		if _, err := wf.NewBranch().OnRollback(phase2(wf, "/account/cancel", in)).
			OnCommit(phase2(wf, "/account/confirm", in)).
			NewRequest().SetBody(in.order).Post(in.at("/account/try", in.Pay)); err != nil {
			return nil, err
		}
		if _, err := pointsByXa(wf, in); err != nil {
			return nil, err
		}
		return []byte("all kinds of it: \"äöü\""), nil
	}))
}

// POST /workflow/execute?name=N&gid=G runs one, from its beginning or from where
// it is; /workflow/resume is where the coordinator asks for that.
func handleWorkflow(w http.ResponseWriter, req *http.Request) {
	qs := req.URL.Query()
	body, err := io.ReadAll(req.Body)
	var out []byte
	if err == nil && strings.HasSuffix(req.URL.Path, "/resume") {
		_, _, err = logCall(qs, "/workflow/resume", "")
		if err == nil {
			err = workflow.ExecuteByQS(qs, body)
		}
	} else if err == nil {
		out, err = workflow.ExecuteCtx(context.Background(), qs.Get("name"), qs.Get("gid"), body)
	}
	code, answer := dtmcli.Result2HttpJSON(map[string]string{"result": string(out)})
	if err != nil {
		code, answer = dtmcli.Result2HttpJSON(err)
	}
	writeJSON(w, code, answer)
}
