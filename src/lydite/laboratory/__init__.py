"""The adversarial and whole-deployment parts that the demo, the calibration and the tests share."""
