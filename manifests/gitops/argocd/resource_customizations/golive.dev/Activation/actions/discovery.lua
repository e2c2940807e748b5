local function is(type, reason)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, condition in ipairs(obj.status.conditions) do
      if condition.type == type and condition.status == "True" then
        return reason == nil or condition.reason == reason
      end
    end
  end
  return false
end

local deleting = obj.metadata.deletionTimestamp ~= nil
local suspended = obj.spec ~= nil and obj.spec.suspend == true
local annotations = obj.metadata.annotations or {}
local aborted = annotations["golive.dev/abort"] ~= nil
local digest = obj.status ~= nil and obj.status.plan ~= nil and obj.status.plan.digest or nil
-- Only a plan that is not live yet can be stopped.
local working = is("Reconciling") or (is("Stalled") and not is("Stalled", "Aborted"))

local actions = {}
actions["reconcile"] = { ["disabled"] = suspended or deleting }
actions["retry"] = { ["disabled"] = suspended or deleting or not (is("Reconciling") or is("Stalled")) }
actions["abort"] = { ["disabled"] = suspended or deleting or aborted or digest == nil or not working }
actions["suspend"] = { ["disabled"] = suspended or deleting }
actions["resume"] = { ["disabled"] = deleting or not (suspended or aborted) }
return actions
