"""What the losses share: the door, the options, the selection and the reduction."""
