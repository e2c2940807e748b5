-- Health of a golive.dev Activation.
-- The kind follows kstatus: status.observedGeneration, and the conditions Ready, Reconciling and Stalled,
-- of which the last two are present only when True. A gate that waits for a person is Suspended.
local function find(type)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, condition in ipairs(obj.status.conditions) do
      if condition.type == type then
        return condition
      end
    end
  end
  return nil
end

-- What is said beside the state of the spec: of the site, and of the integrations.
local function health(status, message)
  local live = find("Live")
  if live ~= nil and live.status == "False" then
    message = message .. "; the site does not answer: " .. (live.message or "")
  end
  local integrations = find("IntegrationsHealthy")
  if integrations ~= nil and integrations.status == "False" then
    message = message .. "; integrations: " .. (integrations.message or "")
  end
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  local deleting = find("Deleting")
  local message = "being deleted"
  if deleting ~= nil and deleting.message ~= nil then
    message = deleting.message
  end
  return { status = "Progressing", message = message }
end

-- A suspension with an end is over at some time: then only the condition tells.
if obj.spec ~= nil and obj.spec.suspend == true and obj.spec.suspendUntil == nil then
  return { status = "Suspended", message = obj.spec.suspendReason or "suspended" }
end

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Golive has not observed this spec yet" }
end

local suspended = find("Suspended")
if suspended ~= nil and suspended.status == "True" then
  return { status = "Suspended", message = suspended.message or "suspended" }
end

local stalled = find("Stalled")
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", stalled.reason .. ": " .. (stalled.message or ""))
end

local reconciling = find("Reconciling")
if reconciling ~= nil and reconciling.status == "True" then
  if reconciling.reason == "AwaitingApproval" then
    return health("Suspended", reconciling.message or "waits for an approval")
  end
  return health("Progressing", reconciling.message or reconciling.reason)
end

local ready = find("Ready")
if ready == nil then
  return { status = "Progressing", message = "Golive has not observed this spec yet" }
end
if ready.status == "True" then
  return health("Healthy", ready.message or ready.reason)
end
if ready.status == "False" then
  return health("Degraded", ready.message or ready.reason)
end
return health("Progressing", ready.message or ready.reason)
